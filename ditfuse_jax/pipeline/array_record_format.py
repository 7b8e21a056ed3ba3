"""Reads records of an ArrayRecord file from ranges of its bytes.

The library's reader takes local files only.  The format: a file is a sequence of chunks, into which
a header of 24 bytes is inserted at every multiple of 64 KiB.  Here every chunk holds one record
(`group_size:1`).  A footer chunk holds the positions of the others, and the last 64 KiB hold the
footer's position.  Sources: `cpp/layout.proto` of github.com/google/array_record and
`doc/riegeli_records_file_format.md` of github.com/google/riegeli.
"""

import functools
import struct
import threading
from typing import Any

import numpy as np

from ditfuse_jax.optional import import_optional

_BLOCK, _BLOCK_HEADER = 1 << 16, 24
_CHUNK_HEADER = struct.Struct("<8xQ8xQQ")  # data size; type, number of records; decoded size
_SIMPLE_CHUNK = ord("r")
_UNCOMPRESSED, _ZSTD = 0, ord("z")
_POSTSCRIPT_BYTES = 512  # at most, with headers; the rest of its 64 KiB is padding
_MAX_BYTES = 1 << 31  # of a record
_MAGIC = 0x71930E704FDAE05E
# An entry of the footer has a position, a size and a count of 1 as varints, each with a tag.
_ENTRY_BYTES = 1 + 6 + 1 + 5 + 2


class FormatError(ValueError):
    """The bytes are not those of an ArrayRecord file with one record per chunk."""


def footer_range(size: int, records: int) -> tuple[int, int]:
    """Returns the range of bytes [start, end) in which the positions of the records are.

    Args:
      size: of the file.
      records: their number.

    Raises:
      FormatError: no such file has this size.
    """
    if size % _BLOCK or not size:
        raise FormatError(f"{size} bytes are not a multiple of 64 KiB")
    length = 1024 + _ENTRY_BYTES * records
    length += (length // _BLOCK + 1) * _BLOCK_HEADER
    padding = _BLOCK  # at most; the postscript begins at a multiple
    return max(0, size - _BLOCK - padding - length), size - _BLOCK + _POSTSCRIPT_BYTES


def positions(data: bytes, start: int, size: int, records: int) -> np.ndarray:
    """Returns the position of each record, and of what follows the last: int64 (records + 1,).

    Args:
      data: the bytes from `start` of the range `footer_range`.
      start: of the range.
      size: of the file.
      records: their number.

    Raises:
      FormatError: the bytes have another format.
    """
    postscript = _records_at(data, start, size - _BLOCK)
    footer = dict(_fields(postscript[0])) if postscript else {}
    if footer.get(2) != _MAGIC or 1 not in footer:
        raise FormatError("there is no footer")
    where = footer[1]
    entries = _records_at(data, start, where)[1:]
    if len(entries) != records:
        raise FormatError(f"holds {len(entries)} records instead of {records}")
    numbers = _varints(b"".join(entries))
    tags = numbers[0::2].reshape(records, 3)
    if (tags != [1 << 3, 2 << 3, 3 << 3]).any():
        raise FormatError("unknown fields in the footer")
    values = numbers[1::2].reshape(records, 3)
    if (values[:, 2] != 1).any():
        raise FormatError("several records are in one chunk")
    return np.append(values[:, 0], where)


def record(data: bytes, start: int) -> bytes:
    """Returns the record whose chunk is in the bytes from position `start` of the file.

    Raises:
      FormatError: the bytes are damaged.
    """
    found = _records_at(data, start, start)
    if len(found) != 1:
        raise FormatError(f"{len(found)} records are in one chunk")
    return found[0]


def _records_at(data: bytes, start: int, position: int) -> list[bytes]:
    """Returns the records of the chunk at a position of the file."""
    header, position = _without_headers(data, start, position, _CHUNK_HEADER.size)
    size, kind, decoded = _CHUNK_HEADER.unpack(header)
    if kind & 0xFF != _SIMPLE_CHUNK:
        raise FormatError(f"chunk of unknown type {kind & 0xFF}")
    content, _ = _without_headers(data, start, position, size)
    return _records(content, kind >> 8, decoded)


def _without_headers(data: bytes, start: int, position: int, size: int) -> tuple[bytes, int]:
    """Returns `size` bytes from a position on, without block headers, and the position after."""
    parts = []
    if size > len(data):
        raise FormatError("bytes are missing")
    while size:
        if position % _BLOCK == 0:
            position += _BLOCK_HEADER
        length = min(size, _BLOCK - position % _BLOCK)
        part = data[position - start : position - start + length] if position >= start else b""
        if len(part) != length:
            raise FormatError("bytes are missing")
        parts.append(part)
        position, size = position + length, size - length
    return b"".join(parts), position


def _records(content: bytes, count: int, size: int) -> list[bytes]:
    """Returns the records of a chunk's content."""
    if not content:
        raise FormatError("an empty chunk")
    kind = content[0]
    length, begin = _varint(content, 1)
    lengths = _varints(_decompressed(kind, content[begin : begin + length], 10 * count))
    values = _decompressed(kind, content[begin + length :], size)
    if len(lengths) != count or lengths.sum() != size or len(values) != size:
        raise FormatError("sizes disagree")
    ends = np.cumsum(lengths).tolist()
    return [values[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _decompressed(kind: int, data: bytes, limit: int) -> bytes:
    if kind == _UNCOMPRESSED:
        return data
    if kind != _ZSTD:
        raise FormatError(f"unknown compression {kind}")
    size, begin = _varint(data, 0)
    if size > min(limit, _MAX_BYTES):
        raise FormatError("sizes disagree")
    try:
        return _decompressor().decompress(data[begin:], max_output_size=size)
    except _zstandard().ZstdError as error:
        raise FormatError(str(error)) from error


@functools.cache
def _zstandard() -> Any:
    return import_optional("zstandard", "gcs")


_of_thread = threading.local()


def _decompressor() -> Any:
    """Returns this thread's decompressor: they are not made for several threads."""
    if not hasattr(_of_thread, "decompressor"):
        _of_thread.decompressor = _zstandard().ZstdDecompressor()
    return _of_thread.decompressor


def _fields(message: bytes) -> list[tuple[int, int]]:
    """Returns (number, value) of the fields of a protocol buffer that has only integers."""
    found, begin = [], 0
    while begin < len(message):
        tag, begin = _varint(message, begin)
        if tag & 7 == 1:  # fixed 64 bits
            value, begin = int.from_bytes(message[begin : begin + 8], "little"), begin + 8
        elif tag & 7 == 0:
            value, begin = _varint(message, begin)
        else:
            raise FormatError("unknown fields in the postscript")
        found.append((tag >> 3, value))
    return found


def _varint(data: bytes, begin: int) -> tuple[int, int]:
    """Returns the number that is encoded at a position, and the position after it."""
    value = shift = 0
    for place in range(begin, min(begin + 10, len(data))):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value, place + 1
        shift += 7
    raise FormatError("a number does not end")


def _varints(data: bytes) -> np.ndarray:
    """Returns the numbers, below 2^63, that are encoded one after the other: int64 (n,)."""
    found = np.frombuffer(data, np.uint8)
    (ends,) = np.nonzero(found < 0x80)
    if not len(ends):
        return np.zeros(0, np.int64)
    if ends[-1] != len(found) - 1:
        raise FormatError("a number does not end")
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(found)) - np.repeat(starts, ends - starts + 1)
    parts = (found & 0x7F).astype(np.int64) << (7 * place)
    return np.add.reduceat(parts, starts)
