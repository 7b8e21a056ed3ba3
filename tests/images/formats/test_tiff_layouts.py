"""TIFF layouts: each is written by tifffile and read as it was written, or refused.

The reference for compression with losses is tifffile's decoder; ours for it is Pillow's.
"""

import io
import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.decode import decode_samples

pytest.importorskip("imagecodecs")

LAYOUTS = {
    "strips": {},
    "rows": {"rowsperstrip": 8},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
    "BigTIFF tiles": {"tile": (16, 16), "bigtiff": True},
    "planes": {"planarconfig": "separate"},
    "big-endian planes": {"planarconfig": "separate", "byteorder": ">"},
    "planes of tiles": {"planarconfig": "separate", "tile": (16, 16)},
}
COMPRESSIONS = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "lzw predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "deflate predictor": {"compression": "zlib", "predictor": True},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "jpeg": {"compression": "jpeg"},
}
# Channels, colour space, meaning of the last channel.
KINDS = {
    "grey": (1, "minisblack", None),
    "white is zero": (1, "miniswhite", None),
    "grey and alpha": (2, "minisblack", "unassalpha"),
    "rgb": (3, "rgb", None),
    "alpha": (4, "rgb", "unassalpha"),
    "premultiplied": (4, "rgb", "assocalpha"),
    "another channel": (4, "rgb", "unspecified"),
    "cmyk": (4, "separated", None),
}
SAMPLES = {
    "1": lambda x: x > 0.5,
    "8": lambda x: np.rint(x * 255).astype(np.uint8),
    "16": lambda x: np.rint(x * 65535).astype(np.uint16),
    "int16": lambda x: np.rint(x * 60000 - 30000).astype(np.int16),
    "uint32": lambda x: np.rint(x.astype(np.float64) * (2**32 - 1)).astype(np.uint32),
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x,
}
TOPS = {"1": 1, "8": 255, "16": 65535, "float16": 1, "float32": 1}
# Combinations that people have, which must be read and not just refused.
READ = {
    *itertools.product(("grey", "white is zero"), ("1", "8", "16")),
    *itertools.product(("grey",), ("int16", "uint32", "float16", "float32")),
    *itertools.product(("grey and alpha", "rgb", "alpha"), ("8", "16")),
    *itertools.product(("premultiplied", "another channel"), ("8", "16")),
}
REFUSED = {("rgb", "packbits", "planes"), ("rgb", "jpeg", "planes")}


def written(values, kind, layout, compression):
    _, photometric, extra = KINDS[kind]
    planes = "planarconfig" in LAYOUTS[layout]
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        np.moveaxis(values, -1, 0) if planes else values,
        photometric=photometric,
        extrasamples=[extra] if extra else None,
        metadata=None,
        **LAYOUTS[layout],
        **COMPRESSIONS[compression],
    )
    return stream.getvalue()


def expected_of(values, kind, samples):
    """The values as a decoder shall return them, from 0 to 1, or in their own unit."""
    if samples in ("int16", "uint32"):
        return values.astype(np.float64)
    shown = values.astype(np.float64) / TOPS[samples]
    if kind == "white is zero":
        return 1 - shown
    if kind in ("grey and alpha", "alpha"):
        shown = shown[..., :-1] * shown[..., -1:]
        return shown[..., 0] if kind == "grey and alpha" else shown
    if kind == "cmyk":
        return (1 - shown[..., :3]) * (1 - shown[..., 3:])
    return shown[..., :3] if shown.ndim == 3 else shown


def outcomes(pictures, kind, samples):
    """Yields (layout, compression, whether it was read); the file is right or refused."""
    channels = KINDS[kind][0]
    values = SAMPLES[samples](pictures.picture(channels))
    for layout, compression in itertools.product(LAYOUTS, COMPRESSIONS):
        if channels == 1 and "planes" in layout:
            continue
        try:
            data = written(values, kind, layout, compression)
        except (ValueError, RuntimeError, NotImplementedError):
            continue  # not a layout of TIFF
        try:
            got = decode_samples(data, "x.tif").values
        except UserError as error:
            assert str(error).startswith("x.tif: ") and "\n" not in str(error)
            yield layout, compression, False
            continue
        stored = values
        if compression == "jpeg":
            stored = tifffile.imread(io.BytesIO(data))
            stored = np.moveaxis(stored, 0, -1) if stored.shape[0] == channels > 1 else stored
        expected = expected_of(stored, kind, samples)
        top = {"uint8": 255, "uint16": 65535, "float32": 1}[got.dtype.name]
        if got.ndim == 3 and expected.ndim == 2:
            expected = np.repeat(expected[..., None], 3, axis=2)
        assert got.shape == expected.shape, (layout, compression)
        error = np.abs(got.astype(np.float64) / top - expected).max()
        allowed = 256 if samples == "uint32" else 1.01 / top if top > 1 else 1e-6
        assert error <= allowed, (layout, compression, error)
        yield layout, compression, True


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiff_is_read_as_it_was_written_or_refused(pictures, kind, samples):
    found = list(outcomes(pictures, kind, samples))
    if (kind, samples) in READ:
        refused = {
            (layout, compression)
            for layout, compression, read in found
            if not read
            and compression != "jpeg"
            and not layout.endswith("planes")
            and layout != "planes of tiles"
        }
        assert not refused
    assert found or samples == "1"


def test_plain_colours_in_planes_are_read(pictures):
    for samples in ("8", "16"):
        read = {(a, b) for a, b, done in outcomes(pictures, "rgb", samples) if done}
        assert {("planes", "none"), ("planes", "deflate"), ("planes of tiles", "none")} <= read


def test_pages_are_counted_without_smaller_copies(pictures):
    values = pictures.whole(pictures.picture(), 8)

    def file(subfiletype):
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            writer.write(values, photometric="rgb", metadata=None)
            writer.write(values[::2, ::2], photometric="rgb", subfiletype=subfiletype)
        return stream.getvalue()

    np.testing.assert_array_equal(decode_samples(file(1), "x").values, values)
    with pytest.raises(
        UserError, match="x: holds several pages: save the one to fuse as its own file"
    ):
        decode_samples(file(0), "x")


@pytest.mark.parametrize("kind", ["imagej", "shaped", "volumetric"])
def test_a_stack_whose_further_images_have_no_directory_is_refused(kind):
    options = {
        "imagej": {"imagej": True, "truncate": True},
        "shaped": {"truncate": True},
        "volumetric": {"volumetric": True, "tile": (16, 16, 16)},
    }[kind]
    for samples in (np.uint8, np.uint16):
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.zeros((16, 16, 16), samples), **options)
        with pytest.raises(UserError, match=r"^x: holds several pages: save the one to fuse"):
            decode_samples(stream.getvalue(), "x")
    one = io.BytesIO()
    tifffile.imwrite(one, np.zeros((16, 16), np.uint16), imagej=kind == "imagej")
    assert decode_samples(one.getvalue(), "x").values.shape == (16, 16)


@pytest.mark.parametrize("samples", [np.uint8, np.uint16])
@pytest.mark.parametrize("description", ["ImageJ=1.11a\nimages=5\nslices=5\n", "shaped"])
def test_a_page_that_was_taken_out_of_a_stack_with_its_description_is_read(samples, description):
    if description == "shaped":
        description = '{"shape": [5, 16, 24], "truncated": true}'
    stream, values = io.BytesIO(), np.arange(384, dtype=samples).reshape(16, 24)
    tifffile.imwrite(stream, values, description=description, metadata=None)
    found = decode_samples(stream.getvalue(), "x").values
    np.testing.assert_array_equal(found[..., 0] if found.ndim == 3 else found, values)


@pytest.mark.parametrize("samples", [np.uint8, np.uint16])
def test_premultiplied_transparency_is_told(samples):
    stream, values = io.BytesIO(), np.full((16, 24, 4), 40, samples)
    tifffile.imwrite(stream, values, photometric="rgb", extrasamples=["assocalpha"])
    (note,) = decode_samples(stream.getvalue(), "x").notes
    assert "transparent" in note


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("samples", [np.uint8, np.uint16, np.int16, np.float32])
def test_every_depth_is_turned_upright(samples, orientation):
    # EXIF 2.32, table of orientations.
    shown = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.T,
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].T,
        8: lambda x: np.rot90(x, 1),
    }[orientation]
    stored = np.arange(24).reshape(4, 6).astype(samples)
    for options in ({}, {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib"}):
        stream = io.BytesIO()
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(stream, stored, extratags=tags, **options)
        values = decode_samples(stream.getvalue(), "x").values
        values = values[..., 0] if values.ndim == 3 else values
        np.testing.assert_array_equal(values, shown(stored))


@pytest.mark.parametrize("samples", [np.uint8, np.uint16])
def test_channels_that_are_left_out_are_told(samples):
    stored = np.full((4, 6, 4), 9, samples)
    for meaning, notes in (
        (
            "unspecified",
            ("its last channel, which is neither colour nor transparency, is left out",),
        ),
        ("unassalpha", ("its transparent parts are put over black",)),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, stored, photometric="rgb", extrasamples=[meaning])
        read = decode_samples(stream.getvalue(), "x")
        assert (read.values.shape, read.notes) == ((4, 6, 3), notes)


@pytest.mark.parametrize("compression", ["none", "zstd", "deflate"])
@pytest.mark.parametrize("samples", ["16", "int16"])
def test_a_truncated_deep_tiff_is_refused(pictures, samples, compression):
    data = written(SAMPLES[samples](pictures.picture(1)), "grey", "strips", compression)
    with pytest.raises(UserError, match="x: is damaged or truncated"):
        decode_samples(data[: len(data) - 40], "x")


def test_without_the_library_a_rare_compression_names_the_extra(pictures, monkeypatch):
    data = written(pictures.whole(pictures.picture(), 8), "rgb", "strips", "zstd")

    def missing(self, *args, **kwargs):
        raise ValueError("<COMPRESSION.ZSTD: 50000> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(UserError, match=r"compression zstd: pip install 'ditfuse-jax\[formats\]'"):
        decode_samples(data, "x")


def test_signed_counts_keep_their_values(pictures):
    values = np.array([[-500, 3000], [20, 7]], np.int16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric="minisblack")
    samples = decode_samples(stream.getvalue(), "x")
    np.testing.assert_array_equal(samples.values, values.astype(np.float32))


def test_the_cmyk_reference_agrees_with_pillow(pictures):
    values = pictures.whole(pictures.picture(4), 8)
    rgb = np.asarray(Image.fromarray(values, "CMYK").convert("RGB"))
    assert np.abs(rgb / 255 - expected_of(values, "cmyk", "8")).max() <= 1.01 / 255
