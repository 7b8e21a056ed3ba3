"""TIFF files that Pillow and OpenCV do not read, or read wrongly, by tifffile.

These are signed samples, 32-bit counts and floats of other sizes than 32 bits; grey with alpha in
16 bits; samples of 9 to 15 bits; compression by zstd, LZMA, WebP or LERC; planes with
alpha; and alpha that is multiplied into the colours already.
"""

import functools
import io
import itertools
import logging
from typing import IO

import numpy as np
import tifffile
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import ImageFormat, OpenedFile
from ditfuse_jax.images.samples import (
    TIFF_COMPRESSIONS,
    TRANSPARENT,
    Samples,
    deep_colour,
    eight_bit_rgb,
    is_part_of_stack,
    left_out_channels,
    several_pages,
    turned_upright,
)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3  # sample formats
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG, _LZW = 7, 5
_JPEG_2000 = {33003, 33004, 33005, 34712}  # whose decoders differ for big-endian and 32-bit files
_SUBFILE_NOT_A_PAGE = 1 | 4  # a smaller copy, a mask
_PREMULTIPLIED, _ALPHA = 1, 2
_ORIENTATION, _SAMPLE_FORMAT, _MAX_SAMPLE = 274, 339, 281
_SIDEWAYS = {5, 6, 7, 8}
_UINT16_MAX = 65535
_MOST_PAGES = 16

# It reports odd tags of files that it reads nevertheless.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a TIFF file; see `ImageFormat`."""
    file = tifffile.TiffFile(io.BytesIO(data))
    first = itertools.islice(file.pages, _MOST_PAGES)  # a damaged file may have any number
    if sum(not _subfile(page) & _SUBFILE_NOT_A_PAGE for page in first) > 1:
        raise several_pages(name)
    page = file.pages.first
    assert isinstance(page, tifffile.TiffPage)
    if is_part_of_stack(page.description, page.dataoffsets, page.databytecounts, len(data)):
        raise several_pages(name)
    _check(page, name)
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data):
        raise UserError(f"{name}: is damaged or truncated (its pixels end early)")
    orientation = int(page.tags.valueof(_ORIENTATION, 1))
    height, width = int(page.imagelength), int(page.imagewidth)  # tuples in damaged files
    return OpenedFile(
        (width, height) if orientation in _SIDEWAYS else (height, width),
        functools.partial(_decode, page, orientation, name),
    )


def _is_unusual(stream: IO[bytes]) -> bool:
    if not stream.read(4).startswith(_MAGIC):
        return False
    stream.seek(0)
    try:
        page = tifffile.TiffFile(stream).pages.first
    except Exception:  # a damaged file, which is reported when it is read
        return False
    assert isinstance(page, tifffile.TiffPage)
    return not _is_usual(page)


def _is_usual(page: tifffile.TiffPage) -> bool:
    """Whether Pillow or OpenCV reads a layout correctly, or refuses it."""
    bits, channels, compression = page.bitspersample, page.samplesperpixel, int(page.compression)
    kinds = page.tags.valueof(_SAMPLE_FORMAT, _UNSIGNED)
    if isinstance(kinds, tuple) and len(set(kinds)) > 1:
        return True
    kind = int(kinds[0] if isinstance(kinds, tuple) else kinds)
    planar = int(page.planarconfig) == 2 and channels > 1
    if int(page.photometric) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        return True  # as a palette, which Pillow reads or refuses
    if kind == _FLOAT:
        return bits == 32 and channels == 1 and compression in TIFF_COMPRESSIONS
    if kind != _UNSIGNED or bits not in (1, 2, 4, 8, 16) or compression not in TIFF_COMPRESSIONS:
        return False
    extra = [int(e) for e in page.extrasamples]
    if bits == 16:
        if int(page.photometric) == _WHITE_IS_ZERO and page.parent.byteorder == ">":
            return False
        return channels in (1, 3) + (4,) * (not planar) and not (planar and compression == _LZW)
    return (channels != 2 or not planar) and (channels != 4 or (not planar and extra == [_ALPHA]))


def _check(page: tifffile.TiffPage, name: str) -> None:
    def refuse(what: str) -> UserError:
        return UserError(
            f"{name}: TIFF with {what}: save it with 8 or 16 unsigned bits per channel, grey or RGB"
        )

    channels, dtype, compression = page.samplesperpixel, page.dtype, int(page.compression)
    if compression in _JPEG_2000 or (compression == _JPEG and page.bitspersample != 8):
        raise refuse(f"compression {_compression(page)}")
    if page.bitspersample < 8 and channels > 1:
        raise refuse(f"{page.bitspersample} bits per channel")
    if page.imagedepth > 1:
        raise refuse("a volume")
    if channels > 4:
        raise refuse(f"{channels} channels")
    if dtype is None or dtype.kind not in "buif" or dtype.itemsize > 8:
        raise refuse("samples of an unknown type")
    if (dtype.kind in "if" or dtype.itemsize > 2) and channels > 1:
        raise refuse(f"{dtype} colours")
    if int(page.photometric) == _WHITE_IS_ZERO and (dtype.kind in "if" or dtype.itemsize > 2):
        raise refuse(f"{dtype} samples of which 0 is white")


def _decode(page: tifffile.TiffPage, orientation: int, name: str) -> Samples:
    try:
        values = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise UserError(
            f"{name}: TIFF with compression {_compression(page)}: pip install"
            " 'ditfuse-jax[formats]', or save it uncompressed"
        ) from error
    values = np.squeeze(values)
    if page.axes.startswith("S"):  # separate planes
        values = np.moveaxis(values.reshape(page.shape), 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, -1)
    values = turned_upright(values, orientation)
    if values.dtype.kind in "if" or values.dtype.itemsize > 2:
        return Samples(values[..., 0].astype(np.float32))
    if values.dtype == bool or page.bitspersample < 8:
        values = (values.astype(np.uint8) * (255 // (2**page.bitspersample - 1))).astype(np.uint8)
    top = 2**page.bitspersample - 1 if values.dtype == np.uint16 else 255
    extra = [int(e) for e in page.extrasamples]
    colours = values.shape[2] - len(extra)
    if int(page.photometric) == _WHITE_IS_ZERO:
        values = np.concatenate([top - values[..., :colours], values[..., colours:]], axis=-1)
    icc = page.tags.valueof("InterColorProfile")
    transparent = extra[:1] == [_ALPHA]
    seen = values if transparent else values[..., :colours]
    kept = len(extra) and extra[0] in (_PREMULTIPLIED, _ALPHA)
    notes = left_out_channels(len(extra) - kept)
    if extra[:1] == [_PREMULTIPLIED] and values[..., colours].min() < top:
        notes += (TRANSPARENT,)  # as the colours are
    if values.dtype == np.uint8:
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[seen.shape[2]]
        raw = np.ascontiguousarray(seen[..., 0] if mode == "L" else seen)
        image = Image.frombytes(mode, raw.shape[1::-1], raw.tobytes())
        if icc:
            image.info["icc_profile"] = icc
        return eight_bit_rgb(image, notes)
    if not transparent and seen.shape[2] == 1 and page.bitspersample < 16:
        return Samples(seen[..., 0], notes=notes)  # counts
    if transparent or icc:
        return deep_colour(seen, top, icc, notes, name)
    full = page.tags.valueof(_MAX_SAMPLE)
    full_range = full is not None and set(np.ravel(full)) == {_UINT16_MAX}
    return Samples(
        np.ascontiguousarray(seen if colours > 1 else seen[..., 0]), full_range, notes=notes
    )


def _compression(page: tifffile.TiffPage) -> str:
    return tifffile.COMPRESSION(page.compression).name.lower()


def _subfile(page: object) -> int:
    return int(getattr(page, "subfiletype", 0) or 0)


TIFF = ImageFormat((".tif", ".tiff"), _is_unusual, open_tiff)
