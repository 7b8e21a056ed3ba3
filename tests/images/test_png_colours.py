"""What PNG files say of their colours and transparency in chunks."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ImageCms

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.decode import decode_samples

GREY, RGB = 0, 2


def chunk(kind, content):
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(bits, colour, row, *chunks):
    """A file of one row (bytes); `chunks` are pairs of name and content."""
    width = len(row) * 8 // bits // (3 if colour == RGB else 1)
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_brightness_is_refused_by_name(bits, transfer, name):
    data = png(bits, RGB, bytes(24), (b"cICP", bytes([9, transfer, 0, 1])))
    with pytest.raises(UserError, match=rf"^x\.png: has HDR brightness \({name}\): export it"):
        decode_samples(data, "x.png")


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_other_primaries_are_said(bits):
    data = png(bits, RGB, bytes(24), (b"cICP", bytes([12, 13, 0, 1])))
    (note,) = decode_samples(data, "x").notes
    assert note == "its colours are of Display P3, without a profile, and are not converted to sRGB"
    assert not decode_samples(png(bits, RGB, bytes(24), (b"cICP", bytes([1, 13, 0, 1]))), "x").notes


@pytest.mark.parametrize("bits", [8, 16])
def test_nothing_is_said_of_primaries_where_a_profile_is_applied(bits):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = (b"iCCP", b"profile\0\0" + zlib.compress(profile))
    data = png(bits, RGB, bytes(24), (b"cICP", bytes([12, 13, 0, 1])), icc)
    assert not decode_samples(data, "x").notes


def test_a_gamma_that_is_not_applied_is_said_unless_the_file_names_srgb():
    linear, usual = (b"gAMA", struct.pack(">I", 100_000)), (b"gAMA", struct.pack(">I", 45_455))
    (note,) = decode_samples(png(8, GREY, bytes(4), linear), "x").notes
    assert note == "its gamma, 1 instead of 2.2, is not applied"
    for chunks in ([usual], [linear, (b"sRGB", b"\0")], [(b"gAMA", bytes(4))]):
        assert not decode_samples(png(8, GREY, bytes(4), *chunks), "x").notes


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "expected"),
    [
        (1, b"\x55", 1, [0] * 8),
        (2, b"\x1b", 3, [0, 85, 170, 0]),
        (2, b"\x1b", 1, [0, 0, 170, 255]),
        (4, b"\x0f\x73", 7, [0, 255, 0, 51]),
        (8, bytes([0, 7, 200, 255]), 200, [0, 7, 0, 255]),
    ],
)
def test_a_transparent_grey_is_black_at_every_depth(bits, row, transparent, expected):
    read = decode_samples(png(bits, GREY, row, (b"tRNS", struct.pack(">H", transparent))), "x")
    np.testing.assert_array_equal(read.values[0, :, 0], expected)
    assert read.notes == ("its transparent parts are put over black",)


def test_too_much_text_is_not_called_damage():
    text = (b"zTXt", b"notes\0\0" + zlib.compress(bytes([32]) * 2_000_000))
    with pytest.raises(
        UserError, match=r"^x: holds more text beside its pixels than is read: save"
    ):
        decode_samples(png(8, GREY, bytes(4), text), "x")
