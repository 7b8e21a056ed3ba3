"""AVIF files: 8 bits by Pillow, 10 and 12 bits by imagecodecs, which keeps them."""

import contextlib

import numpy as np
from PIL import ExifTags, Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.colours import encoding_notes
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    as_stream,
    has_brand,
    import_library,
)
from ditfuse_jax.images.samples import Samples, deep_colour, eight_bit_rgb, turned_upright

_UNSPECIFIED = 2  # of the code points of ITU-T H.273
_SIDEWAYS = {5, 6, 7, 8}


def open_avif(data: bytes, name: str) -> OpenedFile:
    """Reads the header of an AVIF file; see `ImageFormat`."""
    image = Image.open(as_stream(data), formats=("AVIF",))
    if getattr(image, "n_frames", 1) > 1:
        raise UserError(
            f"{name}: holds {getattr(image, 'n_frames', 1)} frames: save the one to fuse as its own"
            " file"
        )
    bits = _bits(data)
    at = data.find(b"colrnclx")
    codes = [int.from_bytes(data[at + k : at + k + 2], "big") for k in (8, 10)] if at >= 0 else []
    primaries, transfer = codes or (_UNSPECIFIED, _UNSPECIFIED)
    icc = image.info.get("icc_profile")
    notes = encoding_notes(primaries, transfer, bool(icc), name)
    orientation = 1
    with contextlib.suppress(Exception):  # a damaged EXIF block is ignored
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)

    def decode() -> Samples:
        if bits == 8:
            return eight_bit_rgb(image, notes)
        codecs = import_library("imagecodecs", name)
        values = turned_upright(np.asarray(codecs.avif_decode(data)), orientation)
        return deep_colour(values, 2**bits - 1, icc, notes, name)

    width, height = image.size
    return OpenedFile((width, height) if orientation in _SIDEWAYS else (height, width), decode)


def _bits(data: bytes) -> int:
    """Bits per channel, from the configuration of the AV1 decoder (AV1-ISOBMFF, `av1C`)."""
    at = data.find(b"av1C")
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


AVIF = ImageFormat((".avif",), has_brand(b"avif", b"avis"), open_avif)
