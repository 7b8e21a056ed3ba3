"""Reads single records and indices of the shards of packed data.

Shards on a disk are read by the library, those in an object store by ranges of bytes: one request
per record, and one per shard for the positions of its records.

What is kept of a shard - an open reader, or the positions, names or sizes of its records - is
dropped when other shards need the room.  The limits are those of a process, however many sources
it has.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import is_remote
from ditfuse_jax.pipeline.access import DataAccessError, read_range
from ditfuse_jax.pipeline.array_record_format import (
    FormatError,
    footer_range,
    positions,
    record,
)
from ditfuse_jax.pipeline.bounded_cache import BoundedCache
from ditfuse_jax.pipeline.disk_cache import DiskCache
from ditfuse_jax.pipeline.packed_manifest import (
    Shard,
    decode_names,
    decode_sizes,
    sizes_range,
)

_T = TypeVar("_T")

_OPEN_READERS = 256  # each has a file open; a process may often have 1024
_NAMES = 200_000
_POSITIONS_BYTES = _SIZES_BYTES = 32 << 20
_BUFFER_BYTES = 32 << 10  # grain's for random access

_readers: BoundedCache[ArrayRecordReader] = BoundedCache(_OPEN_READERS)
_names: BoundedCache[list[str]] = BoundedCache(_NAMES, len)
_sizes: BoundedCache[np.ndarray] = BoundedCache(_SIZES_BYTES, lambda sizes: sizes.nbytes)
_positions: BoundedCache[np.ndarray] = BoundedCache(_POSITIONS_BYTES, lambda found: found.nbytes)


class Shards:
    """The shards of a folder."""

    def __init__(self, folder: Path, cache: DiskCache | None = None):
        """Creates access to the shards of a folder.

        Args:
          folder: of the shards.
          cache: where what is read from an object store is kept.
        """
        self.folder, self.remote = folder, is_remote(folder)
        self._cache = cache if self.remote else None

    def record(self, shard: Shard, number: int) -> bytes:
        """Returns a record of a shard.

        Raises:
          DataAccessError: the shard cannot be read.
          UserError: the record is damaged.
        """
        path = self.folder / shard.file
        if self.remote:
            return self._remote_record(path, shard, number)
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
          DataAccessError: the index cannot be read, or is damaged.
        """

        def load() -> list[str]:
            index = shard.index or self._index(shard)
            return self._of_index(shard, lambda: decode_names(index, shard))

        return _names.get((self.folder, shard.sha256), load)

    def sizes(self, shard: Shard) -> np.ndarray:
        """Returns (height, width) of each record of a shard, uint32 (records, 2).

        Raises:
          DataAccessError: the index cannot be read, or is damaged.
        """
        if shard.size is not None:
            return np.broadcast_to(np.array(shard.size, np.uint32), (shard.records, 2))

        def load() -> np.ndarray:
            start, end = sizes_range(shard)
            held = shard.index[start:end] if shard.index else self._index(shard, start, end)
            return self._of_index(shard, lambda: decode_sizes(held))

        return _sizes.get((self.folder, shard.sha256), load)

    def _remote_record(self, path: Path, shard: Shard, number: int) -> bytes:
        found = _positions.get(
            (self.folder, shard.sha256), functools.partial(self._read_positions, path, shard)
        )
        start, end = int(found[number]), int(found[number + 1])
        try:
            return self._decoded(path, shard, number, start, end, lambda data: record(data, start))
        except FormatError as error:
            raise UserError(f"{path} record {number} is damaged ({error})") from error

    def _read_positions(self, path: Path, shard: Shard) -> np.ndarray:
        size, count = shard.bytes, shard.records
        try:
            start, end = footer_range(size, count)
            return self._decoded(
                path, shard, count, start, end, lambda data: positions(data, start, size, count)
            )
        except FormatError as error:
            raise DataAccessError(
                f"{path} is not the shard that was packed ({error}): pack the data again"
            ) from error

    def _decoded(
        self,
        path: Path,
        shard: Shard,
        part: int,
        start: int,
        end: int,
        decode: Callable[[bytes], _T],
    ) -> _T:
        """Decodes the bytes [start, end) of a shard, which are a part of the cache."""
        read = functools.partial(read_range, path, start, end)
        if self._cache is None:
            return decode(read())
        try:
            return decode(self._cache.get(shard.sha256, part, start, end, read))
        except FormatError:  # the copy may be damaged, as after a loss of power
            self._cache.drop(shard.sha256, part)
            return decode(read())

    def _of_index(self, shard: Shard, decode: Callable[[], _T]) -> _T:
        try:
            return decode()
        except ValueError as error:  # msgpack's and numpy's for other bytes than were written
            raise DataAccessError(
                f"{self.folder / shard.index_file} is damaged or belongs to another shard "
                f"({error}): delete it and pack again with the same command"
            ) from error

    def _index(self, shard: Shard, start: int = 0, end: int | None = None) -> bytes:
        return read_range(self.folder / shard.index_file, start, end)


def _open_reader(path: Path) -> ArrayRecordReader:
    return ArrayRecordReader(
        str(path), options="readahead_buffer_size:0,", file_reader_buffer_size=_BUFFER_BYTES
    )
