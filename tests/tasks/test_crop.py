import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.tasks.crop import random_crop, random_flips


def coordinates(height, width):
    """An image whose red is the row and whose green is the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image


def scale_of(crop):
    """Source pixels per crop pixel along the columns, from a crop of `coordinates`."""
    green = crop[..., 1].astype(float).mean(axis=0)
    return (green[-1] - green[0]) / (len(green) - 1)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 48),
    st.integers(1, 48),
    st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_every_photograph_gives_a_crop_of_the_requested_size(height, width, crop_h, crop_w, seed):
    image = coordinates(height, width)
    (crop,) = random_crop((image,), np.random.default_rng(seed), (crop_h, crop_w))
    assert crop.shape == (crop_h, crop_w, 3) and crop.dtype == np.uint8
    np.testing.assert_array_equal(image, coordinates(height, width))


def test_crops_of_small_photographs_keep_the_resolution():
    image = coordinates(100, 120)
    for seed in range(50):
        (crop,) = random_crop((image,), np.random.default_rng(seed), (64, 64))
        top, left = (int(value) for value in crop[0, 0, :2])
        np.testing.assert_array_equal(crop, image[top : top + 64, left : left + 64])


def test_all_places_are_reached():
    corners = {
        tuple(random_crop((coordinates(6, 7),), np.random.default_rng(seed), (4, 4))[0][0, 0, :2])
        for seed in range(300)
    }
    assert corners == {(row, column) for row in range(3) for column in range(4)}


def test_half_of_the_crops_of_a_large_photograph_are_downscaled_up_to_the_full_scene():
    image = coordinates(250, 250)
    scales = np.array(
        [
            scale_of(random_crop((image,), np.random.default_rng(seed), (50, 50))[0])
            for seed in range(600)
        ]
    )
    assert abs((np.abs(scales - 1) < 1e-9).mean() - 0.5) < 0.1
    assert scales.min() >= 1 and 4.8 < scales.max() <= 5.05
    shrunk = np.log(scales[scales > 1.02])
    assert abs(np.median(shrunk) - np.log(5) / 2) < 0.2  # log-uniform


@pytest.mark.parametrize(("height", "width"), [(40, 90), (90, 40), (20, 30)])
def test_a_small_photograph_is_upscaled_just_enough(height, width):
    image = coordinates(height, width)
    scales = []
    for seed in range(20):
        (crop,) = random_crop((image,), np.random.default_rng(seed), (64, 64))
        scales.append(scale_of(crop))
    assert abs(np.mean(scales) - min(height, width) / 64) < 0.05


def test_a_share_of_the_crops_shows_all_that_the_crop_s_shape_allows():
    image, crop = coordinates(200, 250), (50, 50)
    scales = [
        scale_of(
            random_crop((image,), np.random.default_rng(seed), crop, full_scene_probability=0.5)[0]
        )
        for seed in range(200)
    ]
    assert 0.4 < np.mean(np.isclose(scales, 4, rtol=0.03)) < 0.65
    assert np.mean(np.isclose(scales, 1)) > 0.15


def test_a_crop_around_a_point_shows_it_anywhere_within():
    image = coordinates(200, 250)
    places = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        point = int(rng.integers(200)), int(rng.integers(250))
        (crop,) = random_crop((image,), rng, (50, 60), containing=point)
        red, green = crop[..., 0].astype(int), crop[..., 1].astype(int)
        assert red.min() - 2 <= point[0] <= red.max() + 2
        assert green.min() - 2 <= point[1] <= green.max() + 2
        places.add(int(10 * (point[0] - red.min()) / 50))
    assert len(places) > 5


def test_downscaling_averages_instead_of_skipping_pixels():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    for seed in range(40):
        (crop,) = random_crop((stripes,), np.random.default_rng(seed), (64, 64))
        assert abs(crop.mean() - 100) < 3


def test_registered_images_stay_registered():
    image = coordinates(200, 200)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        first, second = random_crop((image, image.copy()), rng, (48, 32))
        first, second = random_flips((first, second), rng, vertical_flip=True)
        np.testing.assert_array_equal(first, second)


def test_images_of_different_size_are_refused():
    with pytest.raises(UserError, match="image 1 is 20x10 but image 2 is 10x20"):
        random_crop((coordinates(10, 20), coordinates(20, 10)), np.random.default_rng(0), (8, 8))


@pytest.mark.parametrize(("vertical_flip", "outcomes"), [(False, 2), (True, 4)])
def test_flips_have_probability_one_half_and_are_vertical_only_if_requested(
    vertical_flip, outcomes
):
    image = coordinates(5, 6)
    mirrored = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]][:outcomes]
    counts = np.zeros(outcomes, int)
    for seed in range(400):
        (flipped,) = random_flips(
            (image,), np.random.default_rng(seed), vertical_flip=vertical_flip
        )
        counts += [np.array_equal(flipped, expected) for expected in mirrored]
    assert counts.sum() == 400
    assert np.abs(counts / 400 - 1 / outcomes).max() < 0.1


def test_flipped_images_can_be_given_to_opencv():
    (flipped,) = random_flips((coordinates(8, 8),), np.random.default_rng(1), vertical_flip=True)
    assert cv2.blur(flipped, (3, 3)).shape == (8, 8, 3)
