"""A right warp leaves no part of the images to be shifted; a wrong one does."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.align.geometry import pixel_scaling, similarity_about, transform
from ditfuse_jax.align.verify import confidence_in, remaining_shift
from tests.align.scenes import labels, render, two_views

WARP = similarity_about((169.5, 129.5), 1.05, 2, (8, -6))


def greys(*images):
    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in images]


def test_after_the_true_warp_no_half_has_to_be_shifted():
    reference, moving, truth = two_views(0, WARP)
    left, overlap = remaining_shift(*greys(reference, moving), truth)
    assert confidence_in(left) == 1
    assert np.linalg.norm(left.halves, axis=1).max() < 0.4
    assert 0.85 < overlap < 0.97


@pytest.mark.parametrize("change", [(1, 2.5), (1.04, 0)], ids=["rotation", "scale"])
def test_what_a_wrong_warp_leaves_in_each_half_is_found(change):
    reference, moving, truth = two_views(0, WARP)
    height, width = reference.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    wrong = truth @ similarity_about((centre[0], centre[1]), *change)
    left, _ = remaining_shift(*greys(reference, moving), wrong)
    offsets = [(0, -height / 4), (0, height / 4), (-width / 4, 0), (width / 4, 0)]
    halves = centre + np.array(offsets)
    expected = transform(np.linalg.inv(wrong) @ truth, halves) - halves
    assert np.linalg.norm(left.halves, axis=1).max() > 1.5
    # The blocks of a half disagree, so that its shift is a rough one.
    lengths = np.linalg.norm(left.halves) * np.linalg.norm(expected)
    assert (left.halves * expected).sum() > 0.85 * lengths


def test_a_camera_of_half_the_resolution_is_checked_in_pixels_of_the_first_image():
    reference, moving, truth = two_views(0, WARP)
    height, width = (side // 2 for side in moving.shape[:2])
    small = cv2.resize(moving, (width, height), interpolation=cv2.INTER_AREA)
    halved = pixel_scaling(moving.shape[:2], (height, width)) @ truth
    off = halved.copy()
    off[0, 2] -= 1
    left, _ = remaining_shift(*greys(reference, small), off)
    np.testing.assert_allclose(left.shift, (2 / 1.05, -0.07), atol=0.4)
    assert confidence_in(left) > 0.9


def test_images_without_a_common_pixel_leave_no_confidence():
    images = greys(*(render(labels(k), k) for k in range(2)))
    far = np.array([[1, 0, 5000], [0, 1, 0], [0, 0, 1]], float)
    left, overlap = remaining_shift(*images, far)
    assert confidence_in(left) == overlap == 0
