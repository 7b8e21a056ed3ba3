import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.images import fit_canvas, from_uint8, to_uint8

sides = st.integers(1, 70)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    wave = 127 + 100 * np.sin(2 * np.pi * (rows / height + columns / width) * 1.5)
    return np.repeat(wave[..., None], 3, axis=2).round().astype(np.uint8)


@given(sides, sides, st.sampled_from([1, 8, 16, 64]))
@settings(max_examples=60, deadline=None)
def test_images_that_fit_survive_bitwise(height, width, multiple):
    image = picture(height, width)
    canvas = fit_canvas(height, width, multiple=multiple, max_side=None)
    laid = canvas.apply(image)
    assert laid.shape == (*canvas.padded, 3)
    assert canvas.padded[0] % multiple == canvas.padded[1] % multiple == 0
    assert canvas.padded[0] - height < multiple and canvas.padded[1] - width < multiple
    np.testing.assert_array_equal(canvas.undo(laid), image)
    np.testing.assert_array_equal(to_uint8(canvas.undo(from_uint8(laid))), image)


@given(sides, sides, st.integers(1, 64), st.sampled_from([np.uint8, np.float32, np.float64]))
@settings(max_examples=60, deadline=None)
def test_any_size_and_limit_is_undone_to_the_original_size_and_type(height, width, max_side, dtype):
    canvas = fit_canvas(height, width, multiple=16, max_side=max_side)
    assert max(canvas.scaled) <= max_side
    for padded, scaled in zip(canvas.padded, canvas.scaled, strict=True):
        assert 0 <= padded - scaled < 16
    output = canvas.apply(picture(height, width)).astype(dtype)
    restored = canvas.undo(output)
    assert restored.shape == (height, width, 3) and restored.dtype == dtype
    assert restored.min() >= output.min() and restored.max() <= output.max()


def test_padding_mirrors_the_image_at_the_bottom_and_right():
    image = picture(5, 3)
    laid = fit_canvas(5, 3, multiple=8, max_side=None).apply(image)
    np.testing.assert_array_equal(laid[:5, :3], image)
    np.testing.assert_array_equal(laid[5:8, :3], image[4:1:-1])
    np.testing.assert_array_equal(laid[:5, 3:6], image[:, ::-1])


def test_downscaling_keeps_the_aspect_and_the_mean():
    image = smooth(300, 400)
    canvas = fit_canvas(300, 400, multiple=16, max_side=200)
    assert canvas.scaled == (150, 200) and canvas.padded == (160, 208)
    assert abs(canvas.apply(image)[:150, :200].mean() - image.mean()) < 0.5


def test_a_smooth_image_survives_downscaling():
    image = smooth(300, 401)
    canvas = fit_canvas(300, 401, multiple=16, max_side=200)
    error = canvas.undo(canvas.apply(image)).astype(int) - image
    assert np.abs(error).max() <= 2


def test_a_line_longer_than_the_limit_keeps_one_pixel():
    canvas = fit_canvas(1, 5000, multiple=16, max_side=512)
    assert canvas.scaled == (1, 512)
    assert canvas.undo(canvas.apply(picture(1, 5000))).shape == (1, 5000, 3)


def test_arrays_of_another_size_are_refused():
    canvas = fit_canvas(20, 30, multiple=16, max_side=None)
    with pytest.raises(ValueError, match=r"expected an array \(20, 30, 3\)"):
        canvas.apply(picture(30, 20))
    with pytest.raises(ValueError, match=r"expected an array \(32, 32, 3\)"):
        canvas.undo(picture(20, 30))
