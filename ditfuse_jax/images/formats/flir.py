"""Radiometric JPEG files of FLIR cameras: the raw counts of the sensor.

Such a file is a picture in false colours, with a scale and a logo drawn into it, and beside it, in
`APP1` segments, the 16-bit counts.  Only the counts are data, so they are what is read.  The layout
is that of FLIR's public `FFF` header, as ExifTool describes it.
"""

import io
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import ImageFormat, OpenedFile
from ditfuse_jax.images.samples import Samples

_APP1, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9
_SEGMENT = b"FLIR\0"
_RAW_DATA = 1  # type of a record
_RECORD = struct.Struct("HHIIII")  # type, subtype, version, index, offset, length
_RECORD_BYTES = 32
_HEADER_BYTES = 64
_COUNTS_AT = 32  # in a record of raw data
_PNG = b"\x89PNG\r\n\x1a\n"
_NOTE = "the sensor's counts are read, not the picture in false colours around them"


def open_flir(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a radiometric JPEG; see `ImageFormat`."""
    fff = _joined(data, name)
    record, order = _raw_record(fff, name)
    # The record has its own byte order; its first number is 2.
    (first,) = struct.unpack_from(f"{order}H", record)
    if first >= 0x100:
        order = "<" if order == ">" else ">"
    width, height = struct.unpack_from(f"{order}2H", record, 2)
    counts = record[_COUNTS_AT:]

    def decode() -> Samples:
        if counts.startswith(_PNG):
            values = _png_counts(counts, name)
        elif len(counts) >= 2 * width * height:
            values = np.frombuffer(counts, f"{order}u2", width * height).reshape(height, width)
        else:
            raise UserError(
                f"{name}: its thermal counts are stored in an unknown way: export them as 16-bit"
                " TIFF"
            )
        if values.shape != (height, width):
            raise ValueError(f"thermal counts of {values.shape} instead of {(height, width)}")
        return Samples(values.astype(np.uint16), notes=(_NOTE,))

    return OpenedFile((height, width), decode)


def _is_flir(stream: IO[bytes]) -> bool:
    return any(content.startswith(_SEGMENT) for content in _app1(stream, len(_SEGMENT)))


def _app1(stream: IO[bytes], limit: int | None = None) -> Iterator[bytes]:
    """The contents of a JPEG's APP1 segments, or their first `limit` bytes."""
    if stream.read(2) != b"\xff\xd8":
        return
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF:
        length = int.from_bytes(head[2:], "big") - 2
        if head[1] in (_START_OF_SCAN, _END) or length < 0:
            return
        start = stream.tell()
        if head[1] == _APP1:
            yield stream.read(length if limit is None else min(length, limit))
        stream.seek(start + length)


def _joined(data: bytes, name: str) -> bytes:
    """The FFF file, which is spread over numbered segments of up to 64 kB."""
    parts: dict[int, bytes] = {}
    last = 0
    for content in _app1(io.BytesIO(data)):
        if content.startswith(_SEGMENT) and len(content) > 8:
            parts[content[6]] = content[8:]
            last = content[7]
    if sorted(parts) != list(range(last + 1)):
        raise UserError(f"{name}: is damaged or truncated (thermal counts are missing)")
    return b"".join(parts[number] for number in range(last + 1))


def _raw_record(fff: bytes, name: str) -> tuple[bytes, str]:
    """The record of raw counts, and the byte order of the header."""
    if fff[:4] not in (b"FFF\0", b"AFF\0") or len(fff) < _HEADER_BYTES:
        raise UserError(f"{name}: is damaged or truncated (no header of thermal counts)")
    order = next(
        (o for o in (">", "<") if 100 <= struct.unpack_from(f"{o}I", fff, 20)[0] < 200), None
    )
    if order is None:
        raise UserError(f"{name}: its thermal counts are stored in an unknown version: export TIFF")
    start, count = struct.unpack_from(f"{order}2I", fff, 24)
    for at in range(start, min(start + count * _RECORD_BYTES, len(fff) - 31), _RECORD_BYTES):
        kind, _, _, _, offset, length = struct.unpack_from(f"{order}{_RECORD.format}", fff, at)
        if kind == _RAW_DATA:
            if offset + length > len(fff) or length <= _COUNTS_AT:
                raise UserError(f"{name}: is damaged or truncated (its thermal counts end early)")
            return fff[offset : offset + length], order
    raise UserError(f"{name}: is a FLIR file without thermal counts: export the image as PNG")


def _png_counts(png: bytes, name: str) -> np.ndarray:
    """Counts from a PNG, whose bytes most cameras swap and some do not (ThermaCAM E65).

    The wrong order turns the low byte into the high one, which is noise.
    """
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        if not image.mode.startswith("I"):
            raise UserError(f"{name}: its thermal counts have 8 bits: export them as 16-bit TIFF")
        image.load()
        stored = np.asarray(image).astype(np.uint16)
    swapped = stored.byteswap()
    return stored if _roughness(stored) < _roughness(swapped) else swapped


def _roughness(values: np.ndarray) -> float:
    rows, columns = (np.abs(np.diff(values.astype(np.int32), axis=axis)) for axis in (0, 1))
    return float(rows.sum(dtype=np.float64) + columns.sum(dtype=np.float64))


FLIR = ImageFormat((".jpg", ".jpeg"), _is_flir, open_flir)
