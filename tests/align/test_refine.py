"""The refinement reaches the optimum in few steps, whatever else is in the images."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.align import estimate_alignment
from ditfuse_jax.align.geometry import corner_distance, similarity_about, translation
from ditfuse_jax.align.refine import Level
from tests.align.scenes import labels, render, two_views

pytestmark = pytest.mark.medium

CENTRE = (169.5, 129.5)
MOVE = similarity_about(CENTRE, 1.04, 1.5, (7, -5))


def grey(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def hardly_shared(seed):
    """Returns two greys with edges of one scene, and stronger ones that the other does not have."""
    shared, *own = (grey(render(labels(seed + k), seed + k)) for k in range(3))
    return [cv2.addWeighted(shared, 0.3, one, 0.7, 0) for one in own]


@pytest.mark.parametrize("seed", [0, 20, 40])
def test_starts_on_both_sides_end_at_one_warp_although_most_edges_are_not_shared(seed):
    level = Level(*hardly_shared(seed))
    starts = (similarity_about(CENTRE, 1 + k * 0.008, k * 0.4, (k * 2, -k)) for k in (-1, 1))
    ends = [level.refine(start, "similarity", 12).matrix for start in starts]
    # Plain Gauss-Newton steps are still 0.03 to 0.06 pixels apart then.
    assert corner_distance(*ends, 260, 340) < 0.02
    assert corner_distance(ends[0], np.eye(3), 260, 340) < 0.5


@pytest.mark.parametrize(
    ("model", "limit"),
    [("translation", 0.3), ("similarity", 0.6), ("affine", 0.6), ("homography", 1.5)],
)
def test_every_model_converges_between_images_that_share_all_edges(model, limit):
    reference, moving, truth = two_views(10, translation(0, 0))
    level = Level(grey(reference), grey(moving))
    end = level.refine(translation(3, -2), model, 12).matrix
    assert corner_distance(end, truth, *reference.shape[:2]) < limit


def test_images_without_a_single_edge_stay_where_they_are():
    flat = np.full((120, 160), 90, np.float32)
    end = Level(flat, flat).refine(translation(2, 1), "similarity", 12)
    np.testing.assert_allclose(end.matrix, translation(2, 1), atol=1e-6)


@pytest.mark.parametrize(
    "contrast", [lambda v: 255 - v, lambda v: 255 * np.abs(v / 127.5 - 1) ** 0.7], ids=["-", "fold"]
)
def test_a_known_warp_is_found_although_the_contrast_is_inverted_or_folded(contrast):
    image = render(labels(3), 3)
    moving = np.clip(contrast(image.astype(np.float32)), 0, 255).astype(np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(
        moving, np.linalg.inv(MOVE), (340, 260), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    alignment = estimate_alignment(image, moved)
    assert alignment.confident
    assert corner_distance(alignment.warp.matrix, MOVE, 260, 340) < 1


def test_a_near_object_with_another_shift_does_not_pull_the_warp_along():
    reference, near = labels(5), labels(8, count=12)
    moving = reference.copy()
    reference[80:180, 40:130] = 60 + near[80:180, 40:130]
    moving[84:184, 47:137] = 60 + near[80:180, 40:130]
    alignment = estimate_alignment(render(reference, 1), render(moving, 2, np.linalg.inv(MOVE)))
    assert alignment.confident
    assert corner_distance(alignment.warp.matrix, MOVE, 260, 340) < 1
