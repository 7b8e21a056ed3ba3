import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import (
    check_rgb,
    from_pixels,
    from_uint8,
    to_pixels,
    to_uint8,
    with_depth,
)


def test_all_bytes_survive_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    values = from_uint8(levels)
    assert values.dtype == np.float32
    assert values.min() == -1 and values.max() == 1
    np.testing.assert_array_equal(to_uint8(values), levels)


def test_all_values_of_sixteen_bits_survive_the_round_trip():
    levels = np.arange(65536, dtype=np.uint16)
    values = from_pixels(levels)
    assert values.dtype == np.float32
    assert values.min() == -1 and values.max() == 1
    np.testing.assert_array_equal(to_pixels(values, 16), levels)


def test_eight_bits_in_sixteen_are_the_same_picture():
    levels = np.arange(256, dtype=np.uint8)
    wide = with_depth(levels, 16)
    np.testing.assert_allclose(from_pixels(wide), from_uint8(levels), atol=1e-6)
    np.testing.assert_array_equal(with_depth(wide, 8), levels)
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(with_depth(every, 8), np.rint(every / 257))


def test_values_go_to_the_nearest_byte_and_are_clipped():
    values = np.array([-3, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1, 7], np.float32)
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 255, 255])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    with pytest.raises(UserError, match="NaN or infinite"):
        to_uint8(np.array([0, bad]))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_type_and_shape(image):
    with pytest.raises(UserError, match=rf"view: .*{image.dtype} \({image.shape[0]}, 4"):
        check_rgb(image, "view")
