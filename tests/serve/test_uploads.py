"""Masks that clients send are those that `ditfuse fuse --region` reads."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image
from ditfuse_jax.serve.uploads import decode_mask

PIXELS = 10_000


def png(image, **options):
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def deep():
    """Greys over the whole range of 16 bits, which lose all but black if they are clipped."""
    return png(Image.fromarray(np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)))


def sideways():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a viewer turns it
    mask = np.zeros((6, 8), np.uint8)
    mask[:2] = 255
    return png(Image.fromarray(mask), exif=exif)


def transparent_white():
    pixels = np.full((6, 8, 4), 255, np.uint8)
    pixels[:3, :, 3] = 0
    return png(Image.fromarray(pixels))


@pytest.mark.parametrize("make", [deep, sideways, transparent_white])
def test_a_mask_has_the_greys_of_the_same_file(make, tmp_path):
    data = make()
    (tmp_path / "mask.png").write_bytes(data)
    expected = cv2.cvtColor(read_image(tmp_path / "mask.png"), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(decode_mask(data, "mask", PIXELS), expected)


def test_sixteen_bits_are_scaled_and_not_clipped():
    mask = decode_mask(deep(), "mask", PIXELS)
    assert 100 < mask[3, 0] < 160 and (np.diff(mask.ravel().astype(int)) > 0).all()


def test_a_mask_is_upright_as_the_images_are():
    assert decode_mask(sideways(), "mask", PIXELS).shape == (8, 6)
    assert (decode_mask(sideways(), "mask", PIXELS)[:, -2:] == 255).all()


def test_transparent_white_lies_outside_of_a_region_and_inside_of_an_edit():
    data = transparent_white()
    assert (decode_mask(data, "mask", PIXELS)[:3] == 0).all()
    assert (decode_mask(data, "mask", PIXELS, transparent=True)[:3] == 255).all()


def test_the_mask_of_an_edit_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((6, 8, 4), 255, np.uint8)
    pixels[:2, :, 3] = 0
    data = png(Image.fromarray(pixels), exif=exif)
    mask = decode_mask(data, "mask", PIXELS, transparent=True)
    assert mask.shape == (8, 6) and (mask[:, -2:] == 255).all() and (mask[:, :-2] == 0).all()


def test_the_mask_of_an_edit_needs_a_transparent_part():
    with pytest.raises(UserError, match="has no transparent part"):
        decode_mask(sideways(), "mask", PIXELS, transparent=True)
