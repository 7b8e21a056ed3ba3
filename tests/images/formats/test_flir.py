import io

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import decode_image, image_size
from ditfuse_jax.images.decode import decode_samples


@pytest.fixture(scope="module")
def counts(pictures):
    return (pictures.picture(1) * 900 + 13_000).astype(np.uint16)


@pytest.fixture(scope="module")
def screen(encoded):
    """The picture in false colours, of another size than the counts."""
    return encoded(np.full((60, 80, 3), 77, np.uint8), "JPEG")


@pytest.mark.parametrize("header", ["<", ">"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("segment", [500, 60_000])
def test_counts_are_read_in_either_byte_order_from_several_segments(
    pictures, counts, screen, order, header, segment
):
    data = pictures.flir_jpeg(screen, counts, order=order, header=header, segment=segment)
    samples = decode_samples(data, "x")
    np.testing.assert_array_equal(samples.values, counts)
    assert "counts are read" in samples.notes[0]


@pytest.mark.parametrize("swapped", [False, True])
def test_the_byte_order_of_counts_in_a_png_is_found(pictures, counts, screen, swapped, encoded):
    stored = counts.byteswap() if swapped else counts
    data = pictures.flir_jpeg(screen, counts, record=encoded(Image.fromarray(stored), "PNG"))
    np.testing.assert_array_equal(decode_samples(data, "x").values, counts)


def test_the_size_is_that_of_the_counts(pictures, counts, screen, tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(pictures.flir_jpeg(screen, counts))
    assert image_size(path) == counts.shape


def test_the_counts_fill_the_greys(pictures, counts, screen):
    image = decode_image(pictures.flir_jpeg(screen, counts), "x")
    assert image.min() == 0 and image.max() == 255 and image.std() > 40


def test_lost_segments_and_short_counts_are_damage(pictures, counts, screen):
    whole = pictures.flir_jpeg(screen, counts, segment=500)
    second = whole.index(b"FLIR\0\x01\x01")
    lost = whole[: second - 4] + whole[second + 506 :]
    with pytest.raises(UserError, match="x: is damaged or truncated"):
        decode_samples(lost, "x")
    with pytest.raises(UserError, match="x: its thermal counts are stored in an unknown way"):
        decode_samples(pictures.flir_jpeg(screen, counts, record=b"JPEG-LS " * 9), "x")


def test_a_plain_jpeg_is_no_thermal_file(screen):
    assert decode_samples(screen, "x").values.shape == (60, 80, 3)
    with Image.open(io.BytesIO(screen)) as image:
        exif = image.getexif()
        exif[0x0112] = 1
        stream = io.BytesIO()
        image.save(stream, "JPEG", exif=exif)
    assert decode_samples(stream.getvalue(), "x").values.shape == (60, 80, 3)
