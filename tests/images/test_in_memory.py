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


class Tensor:
    """As of a library that makes no array of it, such as a tensor on a GPU."""

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (Tensor(), r"no array can be made of this Tensor \(can't convert cuda:0 .*cpu\(\)\)$"),
        ([[1, 2], [3]], "no array can be made of this list"),
        (np.ma.masked_array(RGB, RGB > 100), r"of its values are masked: .*filled\(0\)$"),
    ],
)
def test_what_numpy_would_drop_or_cannot_take_is_refused(image, part):
    with pytest.raises(UserError, match=rf"^image 7: .*{part}"):
        load_image(image, "image 7")


def test_the_layout_of_an_array_in_memory_changes_nothing():
    np.testing.assert_array_equal(taken(DEEP.astype(">u2")), DEEP)
    np.testing.assert_array_equal(taken(np.asfortranarray(RGB)), RGB)
    np.testing.assert_array_equal(taken(RGB[::-1, ::-1, ::-1]), RGB[::-1, ::-1, ::-1].copy())
    np.testing.assert_array_equal(taken(np.ma.masked_array(RGB, False)), RGB)
    fixed = RGB.copy()
    fixed.setflags(write=False)
    np.testing.assert_array_equal(taken(fixed), RGB)


def test_an_undecoded_image_of_pillow_is_that_of_its_stream(tmp_path):
    write_image(tmp_path / "deep.png", DEEP)
    stream = io.BytesIO((tmp_path / "deep.png").read_bytes())
    np.testing.assert_array_equal(taken(Image.open(stream)), DEEP)
    opened = Image.open(tmp_path / "deep.png")
    (tmp_path / "deep.png").unlink()  # what was opened is still there
    np.testing.assert_array_equal(taken(opened), DEEP)
    stream.truncate(80)
    stream.seek(0)
    with pytest.raises(UserError, match=r"^image 1: is damaged or truncated"):
        taken(Image.open(stream))
    image = Image.open(stream)
    stream.close()
    with pytest.raises(UserError, match=r"^image 1: its file was closed before it was decoded$"):
        taken(image)


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX"])
def test_formats_that_pillow_alone_reads_are_taken_decoded_or_not(kind):
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, kind)
    for decoded in (False, True):
        image = Image.open(stream)
        if decoded:
            image.load()
        np.testing.assert_array_equal(taken(image), RGB)


def test_a_jpeg_that_pillow_reads_smaller_stays_so():
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(stream, "JPEG")
    image = Image.open(stream)
    image.draft("RGB", (24, 16))
    assert image.size == (24, 16)
    assert taken(image).shape == (16, 24, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_of_several_frames_that_pillow_opened_the_first_is_not_taken_silently(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (40, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    image = Image.open(stream)
    with pytest.raises(UserError, match=r"^image 1: holds (2 frames|several pages): save the one"):
        taken(image)
    image.seek(1)  # chosen by the caller
    assert abs(int(taken(image)[4, 4, 1]) - 200) < 4
    image.seek(0)
    assert abs(int(taken(image.copy())[4, 4, 1]) - 40) < 4


@pytest.mark.parametrize("mode", ["1", "La", "LA", "PA", "RGBa", "RGBX", "YCbCr", "HSV", "I;16B"])
def test_every_mode_of_pillow_is_an_image(mode):
    grey = Image.fromarray(np.full((4, 4), 255, np.uint8)).convert("RGB")
    if mode[:2] == "I;":
        image = Image.fromarray(np.full((4, 4), 65535, np.uint16)).convert(mode)
    else:
        through = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(mode)
        image = (grey.convert(through) if through else grey).convert(mode)
    assert (load_image(image, "image 1").samples.values >= 250).all()
