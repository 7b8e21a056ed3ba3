"""Raw files of cameras (DNG, NEF, CR2, CR3, ARW, ...), developed by LibRaw.

The picture has the camera's white balance, no automatic brightness, sRGB colours and 16 bits.
"""

import struct
from typing import IO

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    as_stream,
    import_library,
)
from ditfuse_jax.images.samples import Samples

_SUFFIXES = [".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef"]
_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_DNG_VERSION, _SUBFILE, _SUB_IFDS, _PHOTOMETRIC = 50706, 254, 330, 262
_COLOUR_FILTERS = 32803
_SIDEWAYS = {5, 6}  # LibRaw's codes of a quarter turn
_NOTE = "a camera's raw file is developed with the camera's white balance"


def open_raw(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a raw file; see `ImageFormat`."""
    rawpy = import_library("rawpy", name)
    try:
        raw = rawpy.imread(as_stream(data))
    except rawpy.LibRawError as error:
        raise UserError(
            f"{name}: LibRaw cannot read this raw file ({error}): export it as 16-bit TIFF"
        ) from error
    sizes = raw.sizes
    size = (sizes.height, sizes.width)
    if sizes.flip in _SIDEWAYS:
        size = size[::-1]

    def decode() -> Samples:
        with raw:
            values = raw.postprocess(
                output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92)
            )
        return Samples(np.ascontiguousarray(values), full_range=True, notes=(_NOTE,))

    return OpenedFile(size, decode)


def _is_raw(stream: IO[bytes]) -> bool:
    head = stream.read(16)
    if head.startswith(_MAGIC) or head[8:10] == b"CR" or head[4:12] == b"ftypcrx ":
        return True
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return False
    tags = _first_tags(stream, "<" if head[:1] == b"I" else ">", head)
    # Of other raw files the first image is a preview, and the raw one lies below it.
    preview = tags.get(_SUBFILE, 0) & 1 and _SUB_IFDS in tags
    return bool(_DNG_VERSION in tags or preview or tags.get(_PHOTOMETRIC) == _COLOUR_FILTERS)


def _first_tags(stream: IO[bytes], order: str, head: bytes) -> dict[int, int]:
    """The numbers of a TIFF file's first directory, where they are stored in the entry."""
    stream.seek(struct.unpack_from(f"{order}I", head, 4)[0])
    (count,) = struct.unpack(f"{order}H", stream.read(2).ljust(2, b"\0"))
    entries, tags = stream.read(12 * count), {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", entries, at)
        (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", entries, at + 8)
    return tags


CAMERA_RAW = ImageFormat(tuple(_SUFFIXES), _is_raw, open_raw)
