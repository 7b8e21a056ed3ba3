"""A warp is sure where warps near it match worse; what content does not determine is refused."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.align import estimate_alignment
from ditfuse_jax.align.geometry import corner_distance, similarity_about
from ditfuse_jax.align.nearby import try_nearby
from ditfuse_jax.align.verify import check_warp
from tests.align.scenes import labels, render, two_views

CENTRE = (169.5, 129.5)
SIMILAR = similarity_about(CENTRE, 1.04, 1.5, (7, -5))
BENT = np.array([[1, 0, -9], [0, 1, -6], [2.5e-4, -1.5e-4, 1]], float)


def views_that_share_the_top(seed, warp, rows=140):
    """Returns two views as `two_views` does, below `rows` of 200 each of a scene of its own."""
    reference, moving, truth = two_views(seed, warp)
    for number, view in enumerate((reference, moving)):
        view[rows:] = render(labels(seed + 50 + number, *view.shape[:2]), number)[rows:]
    return reference, moving, truth


def nearby(reference, moving, matrix, model):
    greys = [
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (reference, moving)
    ]
    return check_warp(*greys, matrix, model)[2]


@pytest.mark.parametrize("model", ["translation", "similarity", "affine", "homography"])
def test_common_edges_everywhere_determine_every_model(model):
    reference, moving, truth = two_views(0, SIMILAR)
    found = nearby(reference, moving, truth, model)
    assert found.determined > 0.95
    assert found.outdone < 0.1


@pytest.mark.parametrize("seed", [10, 20])
def test_corners_without_common_edges_leave_a_homography_undetermined_but_not_a_similarity(seed):
    reference, moving, truth = views_that_share_the_top(seed, SIMILAR)
    assert nearby(reference, moving, truth, "homography").determined < 0.8
    assert nearby(reference, moving, truth, "similarity").determined > 0.95


def test_a_similarity_is_outdone_where_the_images_differ_by_a_homography():
    reference, moving, truth = two_views(0, BENT)
    plain = estimate_alignment(reference, moving, "similarity")
    assert nearby(reference, moving, plain.warp.matrix, "similarity").outdone > 0.95
    assert nearby(reference, moving, truth, "homography").outdone < 0.1


@pytest.mark.medium
def test_a_model_asked_for_by_name_is_not_refused_for_being_too_simple():
    slight = np.array([[1, 0, -4], [0, 1, -3], [1.7e-4, -0.9e-4, 1]], float)
    reference, moving, _ = two_views(0, slight)
    plain = estimate_alignment(reference, moving, "similarity")
    assert nearby(reference, moving, plain.warp.matrix, "similarity").outdone > 0.9
    assert plain.confident


def test_images_too_small_for_blocks_determine_nothing():
    assert try_nearby(None, "similarity", (40, 40)).determined == 0


@pytest.mark.medium
@pytest.mark.parametrize("rows", [120, 140])
def test_a_homography_that_the_content_does_not_determine_is_refused_with_the_reason(rows):
    reference, moving, truth = views_that_share_the_top(10, SIMILAR, rows)
    alignment = estimate_alignment(reference, moving, "homography")
    assert corner_distance(alignment.warp.matrix, truth, *reference.shape[:2]) > 2
    assert not alignment.confident
    assert alignment.reason == "the edges they share do not determine the warp"


@pytest.mark.medium
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_auto_takes_the_simpler_model_that_it_does_determine(seed):
    reference, moving, truth = views_that_share_the_top(seed, SIMILAR)
    alignment = estimate_alignment(reference, moving)
    assert alignment.warp.model == "similarity" and alignment.confident
    assert corner_distance(alignment.warp.matrix, truth, *reference.shape[:2]) < 1.5


@pytest.mark.medium
@pytest.mark.parametrize("seed", [0, 30])
def test_a_homography_is_not_taken_for_a_similarity(seed):
    reference, moving, truth = two_views(seed, BENT)
    alignment = estimate_alignment(reference, moving)
    assert alignment.warp.model == "homography" and alignment.confident
    assert corner_distance(alignment.warp.matrix, truth, *reference.shape[:2]) < 1
