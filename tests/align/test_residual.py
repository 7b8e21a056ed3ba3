"""Small shifts between registered images are undone; what is not sure is left as it is."""

import numpy as np
import pytest

from ditfuse_jax.align import (
    RESIDUAL,
    align_stack,
    calibrate_stacks,
    estimate_alignment,
    read_calibration,
    write_calibration,
)
from ditfuse_jax.align.geometry import similarity_about, translation
from ditfuse_jax.errors import UserError
from tests.align.scenes import labels, render, two_views

NAMES = ["vis", "ir"]


def shift_of(alignment):
    return alignment.warp.matrix[:2, 2]


def shifted(x, y, seed=0):
    return two_views(seed, translation(x, y))[:2]


@pytest.mark.parametrize("shift", [(3, -2), (-5.6, 4.2), (0.7, 0.4), (0, 0)])
def test_a_small_shift_is_found_between_modalities_that_share_only_edges(shift):
    alignment = estimate_alignment(*shifted(*shift), RESIDUAL)
    assert np.linalg.norm(shift_of(alignment) - shift) < 0.25
    assert alignment.confident and alignment.warp.model == "translation"


def test_in_a_large_image_the_search_reaches_farther():
    scene = labels(4, 700, 1300, count=150)
    reference, moving = (
        render(scene, seed, warp)[30:-30, 30:-30]
        for seed, warp in ((1, None), (2, translation(-9.5, 6)))
    )
    alignment = estimate_alignment(reference, moving, RESIDUAL)
    assert np.linalg.norm(shift_of(alignment) - (9.5, -6)) < 0.5


def test_a_shift_is_undone_and_the_first_image_is_neither_cut_nor_changed():
    reference, moving = shifted(4, -3)
    stack = align_stack([reference, moving], NAMES, model=RESIDUAL)
    assert stack.kept == 1
    np.testing.assert_array_equal(stack.images[0], reference)
    registered = shifted(0, 0)[1]
    difference = stack.images[1].astype(int) - registered
    # Where the moved image has pixels; beyond its border is the nearest of them.
    assert np.abs(difference[4:-4, 5:-5]).mean() < 5  # the noise of both images alone: 3.4
    np.testing.assert_allclose(stack.images[1][0].astype(int), stack.images[1][2], atol=1)
    assert "px undone" in str(stack)


def test_images_that_are_registered_stay_as_they_are_to_the_bit():
    reference, moving = shifted(0.3, 0.2)
    stack = align_stack([reference, moving], NAMES, model=RESIDUAL)
    np.testing.assert_array_equal(stack.images[1], moving)
    np.testing.assert_array_equal(stack.warps[0].matrix, np.eye(3))
    assert "left as it is: the shift of" in str(stack)


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_images_are_left_as_they_are_and_a_line_says_why(seed):
    images = [render(labels(100 + seed), 1), render(labels(200 + seed), 2)]
    stack = align_stack(images, NAMES, model=RESIDUAL)
    np.testing.assert_array_equal(stack.images[1], images[1])
    assert "left as it is: their blocks do not agree on one small shift" in str(stack)


def test_a_shift_beyond_the_search_is_not_sure():
    assert not estimate_alignment(*shifted(14, 9), RESIDUAL).confident


@pytest.mark.parametrize("size", [(40, 60), (8, 8)])
def test_images_too_small_to_be_compared_are_left_as_they_are(size):
    images = [np.random.default_rng(k).integers(0, 256, (*size, 3), np.uint8) for k in (0, 0)]
    stack = align_stack(images, NAMES, model=RESIDUAL)
    assert not stack.alignments[0].confident
    np.testing.assert_array_equal(stack.images[1], images[1])


def test_images_of_two_sizes_are_no_registered_pair():
    reference, moving = shifted(0, 0)
    with pytest.raises(UserError, match="280x200 and 280x190 are no registered pair"):
        estimate_alignment(reference, moving[:190], RESIDUAL)


def test_one_shift_serves_all_pairs_and_their_size_is_kept(tmp_path):
    pairs = [shifted(3, -2, seed) for seed in (0, 10, 20)]
    unrelated = (pairs[0][0], render(labels(900), 1)[30:-30, 30:-30])
    calibration = calibrate_stacks([*pairs, unrelated], RESIDUAL, lambda image, _: image)
    assert calibration.pairs == 3
    assert "px from 3 sure pairs" in str(calibration)
    write_calibration(tmp_path / "rig.json", calibration)
    known = read_calibration(tmp_path / "rig.json")
    stack = align_stack(unrelated, NAMES, calibration=known)
    assert stack.kept == 1
    np.testing.assert_allclose(stack.warps[0].matrix, translation(3, -2), atol=0.15)


def test_pairs_without_a_sure_shift_give_a_calibration_that_leaves_images_alone():
    pairs = [(render(labels(100 + k), 1), render(labels(200 + k), 2)) for k in range(2)]
    calibration = calibrate_stacks(pairs, RESIDUAL, lambda image, _: image)
    assert calibration.pairs == 0
    stack = align_stack(pairs[0], NAMES, calibration=calibration)
    np.testing.assert_array_equal(stack.images[1], pairs[0][1])


def test_a_rotation_is_not_taken_for_a_shift():
    reference, moving, _ = two_views(0, similarity_about((169.5, 129.5), 1, 4))
    assert not estimate_alignment(reference, moving, RESIDUAL).confident
