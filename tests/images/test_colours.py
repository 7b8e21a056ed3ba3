import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import SourceRanges
from ditfuse_jax.images.decode import decode_samples

codecs = pytest.importorskip("imagecodecs")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Red, green, blue (x, y), and the gamma (the curve of sRGB where there is none).
SPACES = {
    "Adobe RGB": ((0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256),
    "Display P3": ((0.68, 0.32, 0.265, 0.69, 0.15, 0.06), None),
}
WHITE = (0.3127, 0.3290)


def profile(space):
    primaries, gamma = SPACES[space]
    points = [p for k in range(3) for p in (*primaries[2 * k : 2 * k + 2], 1.0)]
    gamma = gamma or 2.2
    return bytes(codecs.cms_profile("rgb", whitepoint=(*WHITE, 1.0), primaries=points, gamma=gamma))


def to_srgb(colours, space):
    """The definition: to light, to XYZ by the primaries, to sRGB."""

    def matrix(points):
        pairs = np.reshape(points, (3, 2))
        xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in pairs]).T
        white = np.array([WHITE[0] / WHITE[1], 1, (1 - sum(WHITE)) / WHITE[1]])
        return xyz * np.linalg.solve(xyz, white)

    primaries, gamma = SPACES[space]
    light = colours ** (gamma or 2.2)
    light = (
        light @ (np.linalg.inv(matrix((0.64, 0.33, 0.3, 0.6, 0.15, 0.06))) @ matrix(primaries)).T
    )
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def colours(bits):
    """Moderate colours, which are inside of sRGB too."""
    values = np.random.default_rng(0).uniform(0.35, 0.65, (6, 7, 3))
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_eight_bit_colours_of_other_profiles_become_srgb(space, image_format):
    stored, stream = colours(8), io.BytesIO()
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    icc = {"icc_profile": profile(space)}
    Image.fromarray(stored).save(stream, image_format, **options.get(image_format, {}), **icc)
    samples = decode_samples(stream.getvalue(), "x")
    expected = to_srgb(stored / 255, space)
    allowed = 0.05 if image_format == "AVIF" else 2 / 255  # AVIF loses something
    assert np.abs(samples.values / 255 - expected).max() <= allowed

    assert "its colours are converted from" in samples.notes[0]


@pytest.mark.parametrize("space", SPACES)
def test_sixteen_bit_colours_keep_their_depth_when_converted(space):
    stored, stream = colours(16), io.BytesIO()
    tifffile.imwrite(stream, stored, photometric="rgb", iccprofile=profile(space))
    samples = decode_samples(stream.getvalue(), "x")
    assert samples.values.dtype == np.uint16 and samples.full_range
    assert np.abs(samples.values / 65535 - to_srgb(stored / 65535, space)).max() <= 1e-3


def test_without_the_library_sixteen_bit_colours_are_refused_and_not_left_wrong(monkeypatch):
    stream = io.BytesIO()
    tifffile.imwrite(stream, colours(16), photometric="rgb", iccprofile=profile("Adobe RGB"))
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(UserError, match=r"x: 16-bit colours of .*ditfuse-jax\[formats\]'.*as sRGB"):
        decode_samples(stream.getvalue(), "x")


@pytest.mark.parametrize("bits", [8, 16])
def test_srgb_stays_as_it_is_bitwise(bits):
    stored, stream = colours(bits), io.BytesIO()
    tifffile.imwrite(stream, stored, photometric="rgb", iccprofile=SRGB)
    samples = decode_samples(stream.getvalue(), "x")
    np.testing.assert_array_equal(samples.values, stored)
    assert not samples.notes


def test_a_damaged_profile_costs_a_note_and_not_the_image():
    stream = io.BytesIO()
    Image.fromarray(colours(8)).save(stream, "PNG", icc_profile=b"no profile at all" * 20)
    samples = decode_samples(stream.getvalue(), "x")
    np.testing.assert_array_equal(samples.values, colours(8))
    assert "is damaged" in samples.notes[0]


def test_grey_stays_grey_under_a_profile():
    gamma = bytes(codecs.cms_profile("gray", whitepoint=(*WHITE, 1.0), gamma=1.0))
    grey, stream = np.arange(256, dtype=np.uint8).reshape(16, 16), io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", icc_profile=gamma)
    image = decode_samples(stream.getvalue(), "x").values
    light = grey / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert (image == image[..., :1]).all() and np.abs(image[..., 0] / 255 - curve).max() <= 2 / 255


def test_cmyk_without_a_profile_and_transparency_are_said():
    stream = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(stream, "JPEG")
    assert decode_samples(stream.getvalue(), "x").notes == (
        "its CMYK colours are converted without a profile",
    )
    stream = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 9, 9, 99)).save(stream, "PNG")
    assert decode_samples(stream.getvalue(), "x").notes == (
        "its transparent parts are put over black",
    )
    stream = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 9, 9, 255)).save(stream, "PNG")
    assert not decode_samples(stream.getvalue(), "x").notes


def test_what_is_to_know_of_files_is_printed_once_for_each_source(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (8, 8), (9, 9, 9, 99)).save(tmp_path / name)
    stacks = [(tmp_path / "a.png",), (tmp_path / "b.png",)]
    ranges = SourceRanges(stacks)
    for (path,) in stacks:
        ranges.read(path, 0)
    error = capsys.readouterr().err
    assert error.count("put over black") == 1 and str(tmp_path / "a.png") in error
