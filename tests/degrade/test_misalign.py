"""What registration leaves between two cameras: a shift of a few pixels and a slight bend."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import misalign


def textured(seed=0, side=128):
    noise = np.random.default_rng(seed).random((side, side, 3), np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.uint8(255 * (blurred - blurred.min()) / np.ptp(blurred))


def test_the_shift_that_is_named_is_the_one_between_the_images():
    """Phase correlation, an independent estimate of a shift, agrees up to the bend."""
    image = textured()
    grey = [np.float32(image[..., 0])]
    for seed in range(6):
        moved, params = misalign(image, np.random.default_rng(seed))
        found, _ = cv2.phaseCorrelate(grey[0], np.float32(moved[..., 0]))
        assert found == pytest.approx((params["shift_x"], params["shift_y"]), abs=1.6)


def test_shifts_are_at_most_four_pixels_and_of_all_directions():
    image = textured(side=16)
    shifts = np.array(
        [list(misalign(image, np.random.default_rng(seed))[1].values()) for seed in range(200)]
    )
    lengths = np.hypot(*shifts.T)
    assert lengths.max() <= 4 and lengths.min() < 0.5 and lengths.max() > 3.5
    assert all(0.3 < (shifts[:, k] > 0).mean() < 0.7 for k in (0, 1))


def test_a_flat_image_stays_as_it_is_up_to_its_borders():
    flat = np.full((40, 60, 3), 97, np.uint8)
    np.testing.assert_array_equal(misalign(flat, np.random.default_rng(1))[0], flat)
