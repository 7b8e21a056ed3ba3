"""Label files: class numbers in all encodings."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import decode_labels, read_labels

NUMBERS = np.random.default_rng(0).integers(0, 12, (9, 7), dtype=np.uint8)


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def paletted():
    image = Image.fromarray(NUMBERS, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 36, dtype=np.uint8).tobytes())
    return encoded(image)


def sixteen_bits():
    return cv2.imencode(".png", NUMBERS.astype(np.uint16))[1].tobytes()


def three_channels():
    return encoded(Image.fromarray(np.repeat(NUMBERS[..., None], 3, axis=2)))


@pytest.mark.parametrize(
    "coded", [encoded(Image.fromarray(NUMBERS)), paletted(), sixteen_bits(), three_channels()]
)
def test_numbers_are_the_same_in_every_coding(coded, tmp_path):
    (tmp_path / "x.png").write_bytes(coded)
    expected = np.repeat(NUMBERS[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_labels(coded, "x"), expected)
    np.testing.assert_array_equal(read_labels(tmp_path / "x.png"), expected)


def test_bits_are_the_classes_0_and_1():
    labels = decode_labels(encoded(Image.fromarray(NUMBERS > 5)), "x")
    np.testing.assert_array_equal(labels[..., 0], NUMBERS > 5)


def test_colours_are_refused():
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="x: holds colours, not class numbers"):
        decode_labels(encoded(Image.fromarray(colours)), "x")


def test_numbers_beyond_a_byte_are_refused():
    data = cv2.imencode(".png", np.full((2, 2), 300, np.uint16))[1].tobytes()
    with pytest.raises(UserError, match="x: class numbers from 300 to 300"):
        decode_labels(data, "x")


def test_damaged_label_files_are_errors_like_images():
    with pytest.raises(UserError, match="x: is damaged or truncated"):
        decode_labels(encoded(Image.fromarray(NUMBERS))[:60], "x")
