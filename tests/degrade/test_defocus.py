"""Focus pairs: where each image is sharp, and the border of the layers."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import focus_pair
from ditfuse_jax.degrade.defocus import disc, front_mask


def texture(side=96, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (3, 3), 0.8)


def inner(mask, distance=24):
    """Returns the pixels that are farther from the other layer than any blur reaches."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) > distance


def detail(image, where):
    return float(np.abs(cv2.Laplacian(image.astype(np.float32), -1))[where].mean())


@pytest.mark.parametrize("seed", range(12))
def test_the_layer_in_focus_is_the_photograph_and_the_other_is_blurred(seed):
    image = texture(seed=seed)
    pair = focus_pair(image, np.random.default_rng(seed))
    for view, sharp, soft in (
        (pair.near, pair.front, ~pair.front),
        (pair.far, ~pair.front, pair.front),
    ):
        sharp, soft = inner(sharp), inner(soft)
        assert np.abs(view[sharp].astype(int) - image[sharp]).max(initial=0) <= 1
        if soft.any():
            assert detail(view, soft) < 0.6 * detail(image, soft)


@pytest.mark.parametrize("seed", range(6))
def test_a_sharp_foreground_keeps_its_colours_up_to_its_border(seed):
    image = texture(seed=seed)
    pair = focus_pair(image, np.random.default_rng(seed))
    # The blurred background does not cover the foreground.
    difference = pair.near[pair.front].astype(int) - image[pair.front]
    assert np.abs(difference).max() <= 1


def test_a_blurred_front_lets_the_back_shine_through_at_its_border_only():
    rng = np.random.default_rng(3)
    pair = focus_pair(np.zeros((96, 96, 3), np.uint8), rng)
    image = np.where(pair.front[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    again = focus_pair(np.ascontiguousarray(image[..., :3]), np.random.default_rng(3))
    np.testing.assert_array_equal(again.front, pair.front)
    values = again.far[..., 0]
    assert values[inner(again.front)].min() == 255
    assert values[inner(~again.front)].max() == 0
    border = cv2.dilate(again.front.astype(np.uint8), np.ones((3, 3))).astype(bool) & ~again.front
    assert (
        20 < values[border].mean() < 235
    )  # blended with the background, where a hard edge would leave 0


def test_an_even_image_stays_even():
    image = np.full((64, 80, 3), (200, 120, 40), np.uint8)
    for seed in range(5):
        pair = focus_pair(image, np.random.default_rng(seed))
        for view in (pair.near, pair.far):
            assert np.abs(view.astype(int) - image).max() <= 1


def test_fronts_cover_a_fifth_to_four_fifths():
    for seed in range(50):
        share = front_mask(64, 48, np.random.default_rng(seed)).mean()
        assert 0.15 < share < 0.85


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.5, 7.3])
def test_a_disc_sums_to_one_and_is_round(radius):
    kernel = disc(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel.T)
    np.testing.assert_allclose(kernel, kernel[::-1])
    spread = np.sqrt((kernel * (np.indices(kernel.shape)[0] - len(kernel) // 2) ** 2).sum())
    assert spread == pytest.approx(radius / 2, abs=0.35)  # of a disc: half its radius
