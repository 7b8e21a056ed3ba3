"""The estimated warp equals the known one, and what is not sure is refused."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.align import AlignmentError, align_stack, estimate_alignment
from ditfuse_jax.align.geometry import corner_distance, similarity_about, translation
from ditfuse_jax.errors import UserError
from tests.align.scenes import labels, render, two_views

pytestmark = pytest.mark.medium

CENTRE = (169.5, 129.5)
IDENTITY = np.eye(3)
SHEAR = np.array([[1.03, 0.04, -6], [-0.02, 0.96, 5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("seed", "warp"),
    [
        (0, translation(12, -7)),
        (10, similarity_about(CENTRE, 1.1, 3, (-14, 9))),
        (20, similarity_about(CENTRE, 0.92, -2.5, (8, 12))),
    ],
)
def test_a_known_warp_is_found_between_modalities_that_share_only_edges(seed, warp):
    reference, moving, truth = two_views(seed, warp)
    alignment = estimate_alignment(reference, moving)
    assert corner_distance(alignment.warp.matrix, truth, *reference.shape[:2]) < 1
    assert alignment.confident


@pytest.mark.parametrize(
    ("warp", "model"),
    [
        (translation(9, 4), "translation"),
        (similarity_about(CENTRE, 1.06, 2, (5, -5)), "similarity"),
        (SHEAR, "affine"),
        (np.array([[1, 0, -9], [0, 1, -6], [3e-4, 1e-4, 1]], float), "homography"),
    ],
)
def test_the_simplest_model_that_explains_the_pair_is_chosen(warp, model):
    reference, moving, truth = two_views(30, warp)
    alignment = estimate_alignment(reference, moving)
    assert alignment.warp.model == model
    assert corner_distance(alignment.warp.matrix, truth, *reference.shape[:2]) < 2


def test_a_named_model_is_used():
    reference, moving, _ = two_views(40, translation(3, 3))
    assert estimate_alignment(reference, moving, "affine").warp.model == "affine"
    shift = estimate_alignment(reference, moving, "translation").warp.matrix
    np.testing.assert_array_equal(shift[:2, :2], np.eye(2))


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_images_are_refused(seed):
    alignment = estimate_alignment(render(labels(100 + seed), 1), render(labels(200 + seed), 2))
    assert not alignment.confident


@pytest.mark.parametrize("image", ["flat", "noise"])
def test_an_image_without_structure_is_refused(image):
    random = np.random.default_rng(0)
    other = np.full((200, 280, 3), 90, np.uint8)
    if image == "noise":
        other = random.integers(0, 256, other.shape, dtype=np.uint8)
    assert not estimate_alignment(render(labels(1), 1), other).confident
    assert not estimate_alignment(other, render(labels(1), 1)).confident


def test_a_camera_of_half_the_resolution_is_aligned():
    reference, moving, truth = two_views(50, similarity_about(CENTRE, 1.02, 1, (4, 4)))
    height, width = (n // 2 for n in moving.shape[:2])
    small = cv2.resize(moving, (width, height), interpolation=cv2.INTER_AREA)
    halved = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]) @ truth
    alignment = estimate_alignment(reference, small)
    assert corner_distance(alignment.warp.matrix, halved, *reference.shape[:2]) < 1
    assert alignment.confident


def test_an_unknown_model_and_tiny_images_are_refused_in_one_line():
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match="alignment model 'rigid' is unknown; choose from auto"):
        estimate_alignment(image, image, "rigid")
    with pytest.raises(UserError, match="64x20 is too small to be aligned"):
        estimate_alignment(image, image[:20])


def test_a_stack_has_no_pixel_without_a_partner_and_says_what_was_cut():
    reference, moving, _ = two_views(60, similarity_about(CENTRE, 1.05, 2, (10, -6)))
    stack = align_stack([reference, moving], ["a.png", "b.png"])
    assert stack.images[0].shape == stack.images[1].shape
    np.testing.assert_array_equal(stack.images[0], reference[stack.rows, stack.columns])
    assert stack.kept == pytest.approx(
        stack.images[0].shape[0] * stack.images[0].shape[1] / np.prod(reference.shape[:2])
    )
    assert 0.7 < stack.kept < 1
    assert f"{stack.kept:.1%} of the first image kept" in str(stack)


def test_the_refusal_of_a_stack_names_both_images_and_the_reason():
    images = [render(labels(100), 1), render(labels(200), 2)]
    with pytest.raises(AlignmentError, match=r"b\.png could not be aligned with a\.png: .*FILE"):
        align_stack(images, ["a.png", "b.png"])


def test_sixteen_bits_are_aligned_as_eight_bits_are_and_keep_their_depth():
    reference, moving, _ = two_views(0, translation(12, -7))
    fine = np.random.default_rng(0).integers(0, 257, moving.shape, dtype=np.uint16)
    deep = (moving.astype(np.uint16) * 257 - np.minimum(fine // 4, moving)).astype(np.uint16)
    shallow = align_stack([reference, moving], ["a", "b"], model="translation")
    mixed = align_stack([reference, deep], ["a", "b"], model="translation")
    assert mixed.images[0].dtype == np.uint8 and mixed.images[1].dtype == np.uint16
    np.testing.assert_array_equal(mixed.images[0], shallow.images[0])
    difference = mixed.images[1] / 257 - shallow.images[1]
    assert np.abs(difference).max() < 1
    assert len(np.unique(mixed.images[1])) > 3 * 256
