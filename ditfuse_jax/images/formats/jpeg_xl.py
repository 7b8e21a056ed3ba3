"""JPEG XL files: pixels of any depth by imagecodecs, colour profiles by pillow-jxl-plugin."""

import warnings

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    as_stream,
    begins_with,
    import_library,
)
from ditfuse_jax.images.samples import Samples, deep_colour, eight_bit_rgb

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_LENGTHS = (9, 13, 18, 30)  # bits of a side, chosen by two bits
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def open_jpeg_xl(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a JPEG XL file; see `ImageFormat`."""
    import_library("pillow_jxl", name)
    codecs = import_library("imagecodecs", name)
    size = _stored_size(data)

    def decode() -> Samples:
        values = np.asarray(codecs.jpegxl_decode(data))  # upright
        if (values.ndim > 2 and values.shape[-1] not in (1, 2, 3, 4)) or values.ndim > 3:
            raise UserError(f"{name}: holds several frames: save the one to fuse as its own file")
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        icc = _profile(data)
        if values.dtype == np.uint8:
            image = Image.fromarray(values)
            if icc:
                image.info["icc_profile"] = icc
            return eight_bit_rgb(image)
        if values.dtype == np.uint16:
            return deep_colour(values, 65535, icc, (), name)
        raise UserError(f"{name}: JPEG XL with {values.dtype} samples: save it with 16 bits")

    return OpenedFile(size, decode)


def _profile(data: bytes) -> bytes | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on floats, which Pillow lacks
        with Image.open(as_stream(data), formats=("JXL",)) as image:
            return image.info.get("icc_profile")


def _stored_size(data: bytes) -> tuple[int, int]:
    """(height, width) before a rotation, from the header (ISO 18181-1, `SizeHeader`)."""
    bits = int.from_bytes(_codestream(data)[2:18], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_LENGTHS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio - 1]
        return height, height * numerator // denominator
    return height, side()


def _codestream(data: bytes) -> bytes:
    """The beginning of the image's own stream, which may lie in a box of a container."""
    at = 0
    while data.startswith(_CONTAINER) and at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind in (b"jxlc", b"jxlp"):
            return data[start + 4 * (kind == b"jxlp") :][:64]
        if length < 8:
            break
        at += length
    if not data.startswith(_CODESTREAM):
        raise ValueError("no image inside")
    return data[:64]


JPEG_XL = ImageFormat((".jxl",), begins_with(_CODESTREAM, _CONTAINER), open_jpeg_xl)
