"""Reads single records and indices of the shards of packed data.

What is kept of a shard - an open reader, the names or sizes of its records - is dropped when other
shards need the room.  The limits are those of a process, however many sources it has.
"""

import functools
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.bounded_cache import BoundedCache
from ditfuse_jax.pipeline.packed_manifest import (
    Shard,
    decode_names,
    decode_sizes,
    sizes_range,
)

_OPEN_READERS = 256  # each has a file open; a process may often have 1024
_NAMES = 200_000
_SIZES_BYTES = 32 << 20
_BUFFER_BYTES = 32 << 10  # grain's for random access

_readers: BoundedCache[ArrayRecordReader] = BoundedCache(_OPEN_READERS)
_names: BoundedCache[list[str]] = BoundedCache(_NAMES, len)
_sizes: BoundedCache[np.ndarray] = BoundedCache(_SIZES_BYTES, lambda sizes: sizes.nbytes)


class DataAccessError(UserError):
    """Data that exist could not be read, so that no record may be skipped: it ends the run."""


class Shards:
    """The shards of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def record(self, shard: Shard, number: int) -> bytes:
        """Returns a record of a shard.

        Raises:
          DataAccessError: the shard cannot be read.
          UserError: the record is damaged.
        """
        path = self.folder / shard.file
        try:
            reader = _readers.get((path, shard.sha256), functools.partial(_open_reader, path))
            return reader.read([number])[0]
        except (OSError, RuntimeError) as error:  # array_record raises RuntimeError for all
            reason = " ".join(str(error).split())
            if "orrupt" in reason or "mismatch" in reason:
                raise UserError(f"{path} record {number} is damaged ({reason})") from error
            raise DataAccessError(f"{path} cannot be read ({reason})") from error

    def names(self, shard: Shard) -> list[str]:
        """Returns the names of a shard's records.

        Raises:
          DataAccessError: the index cannot be read.
        """

        def load() -> list[str]:
            return decode_names(shard.index or self._index(shard), shard)

        return _names.get((self.folder, shard.sha256), load)

    def sizes(self, shard: Shard) -> np.ndarray:
        """Returns (height, width) of each record of a shard, uint32 (records, 2).

        Raises:
          DataAccessError: the index cannot be read.
        """
        if shard.size is not None:
            return np.broadcast_to(np.array(shard.size, np.uint32), (shard.records, 2))

        def load() -> np.ndarray:
            start, end = sizes_range(shard)
            held = shard.index[start:end] if shard.index else self._index(shard, start, end)
            return decode_sizes(held)

        return _sizes.get((self.folder, shard.sha256), load)

    def _index(self, shard: Shard, start: int = 0, end: int | None = None) -> bytes:
        return read_range(self.folder / shard.index_file, start, end)


def read_range(path: Path, start: int, end: int | None) -> bytes:
    """Reads the bytes [start, end) of a file; `end=None` is its end.

    Raises:
      DataAccessError: it cannot be read, or is shorter.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read() if end is None else file.read(end - start)
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read ({error.strerror or error})") from error
    if end is not None and len(data) != end - start:
        raise DataAccessError(f"{path} is shorter than {end} bytes: pack the data again")
    return data


def _open_reader(path: Path) -> ArrayRecordReader:
    return ArrayRecordReader(
        str(path), options="readahead_buffer_size:0,", file_reader_buffer_size=_BUFFER_BYTES
    )
