"""Images in memory are taken like files."""

import io

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import SourceRanges, load_image, read_stack, write_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16)


def taken(image):
    """The image as the model gets it."""
    loaded = load_image(image, "image 1")
    return SourceRanges([(loaded,)], quiet=True).read(loaded, 0, None)


@pytest.mark.parametrize("image", [RGB, Image.fromarray(RGB)])
def test_eight_bits_stay_as_they_are(image):
    np.testing.assert_array_equal(taken(image), RGB)


def test_sixteen_bits_of_colour_stay_as_they_are():
    np.testing.assert_array_equal(taken(DEEP), DEEP)


@pytest.mark.parametrize("image", [RGB, RGB[..., 0], DEEP, DEEP[..., 0], RGB / 255])
def test_what_is_written_into_an_array_afterwards_changes_nothing(image):
    buffer = image.copy()
    loaded = load_image(buffer, "image 1")
    before = loaded.samples.values.copy()
    buffer[:] = 0
    np.testing.assert_array_equal(loaded.samples.values, before)


def test_sixteen_bits_of_a_thermal_camera_get_the_range_of_the_same_file(tmp_path):
    thermal = RNG.normal(7500, 40, (64, 64)).astype(np.uint16)
    Image.fromarray(thermal).save(tmp_path / "thermal.png")
    (of_file,) = read_stack([tmp_path / "thermal.png"], depth=None)
    assert np.ptp(of_file.astype(int)) > 60000
    for image in (thermal, thermal[..., None], Image.open(tmp_path / "thermal.png")):
        np.testing.assert_array_equal(taken(image), of_file)


def test_an_undecoded_file_of_pillow_keeps_the_bits_that_pillow_drops(tmp_path):
    write_image(tmp_path / "deep.png", DEEP)
    np.testing.assert_array_equal(taken(Image.open(tmp_path / "deep.png")), DEEP)


def test_a_file_of_pillow_that_was_drawn_on_keeps_the_drawing(tmp_path):
    write_image(tmp_path / "a.png", RGB)
    image = Image.open(tmp_path / "a.png")
    image.putpixel((0, 0), (1, 2, 3))
    assert tuple(taken(image)[0, 0]) == (1, 2, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_1_become_16_bits_without_a_measured_range(dtype):
    values = np.linspace(0.25, 0.5, 48).reshape(6, 8).astype(dtype)
    got = taken(values)
    assert got.dtype == np.uint16 and got.shape == (6, 8, 3)
    np.testing.assert_allclose(got[..., 0] / 65535, values, atol=1e-5)


def test_arrays_of_jax_are_taken_also_in_bfloat16():
    import jax.numpy as jnp

    np.testing.assert_array_equal(taken(jnp.asarray(RGB)), RGB)
    half = jnp.full((4, 4, 3), 0.5, jnp.bfloat16)
    assert set(np.unique(taken(half))) == {32768}


def test_grey_palettes_and_transparency_become_rgb():
    grey = RGB[..., 0]
    for image in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(taken(image), np.repeat(grey[..., None], 3, axis=2))
    clear = np.dstack([RGB, np.zeros((6, 8), np.uint8)])
    assert not taken(clear).any()
    assert taken(Image.fromarray(RGB).convert("P")).shape == RGB.shape


def test_the_image_given_is_not_changed():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned by 90 degrees
    Image.fromarray(RGB).save(stream, "PNG", exif=exif)
    image = Image.open(stream)
    assert taken(image).shape == (8, 6, 3)
    assert image.size == (8, 6)


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (np.zeros((4, 4), np.int64), "int64 has no known black and white"),
        (np.zeros((4, 4), bool), "bool has no known black and white"),
        (np.zeros((3, 40, 40), np.uint8), r"shape \(3, 40, 40\) is no image"),
        (np.zeros((0, 4), np.uint8), "is no image"),
        (np.full((4, 4), 255.0), "values from 255 to 255: scale them"),
        (np.full((4, 4), np.nan), "values from nan to nan"),
        (np.zeros((4, 4, 4), np.uint16), "is no image"),
        ("no such file.png", "no such file.png: no such file"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(image, part):
    with pytest.raises(UserError, match=part) as raised:
        load_image(image, "image 7")
    assert isinstance(image, str) or str(raised.value).startswith("image 7: ")
