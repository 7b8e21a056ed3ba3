"""Files of records to which a run appends: one on a file system, several parts in a bucket.

Both take whole records and never hold a part of one, also after a full disk.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_bytes

# A part of this size or age is not written again; the next record starts another.
PART_BYTES = 1 << 18
PART_SECONDS = 900.0


class Appended(Protocol):
    """Holds bytes to which more are appended."""

    def append(self, data: bytes) -> None:
        """Appends a record.

        Raises:
          UserError: it cannot be written.
        """
        ...

    def flush(self) -> None:
        """Writes what is only in memory.

        Raises:
          UserError: it cannot be written; it stays in memory.
        """
        ...

    def close(self) -> None:
        """Flushes and closes."""
        ...


class AppendedFile:
    """A file on a file system; a record is in it when `append` returns."""

    def __init__(self, path: Path, header: bytes = b""):
        """Opens the file, whose folder is created; a new one starts with the header.

        Raises:
          UserError: it cannot be written.
        """
        make_folder(path.parent)
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise self._failure(error) from error
        if header and not self._size:
            self.append(header)

    def append(self, data: bytes) -> None:
        """See `Appended`."""
        rest = memoryview(data)
        try:
            while rest:  # a disk that becomes full takes only a part
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise self._failure(error) from error
        self._size += len(data)

    def flush(self) -> None:
        """See `Appended`."""

    def close(self) -> None:
        """See `Appended`."""
        os.close(self._file)

    def _failure(self, error: OSError) -> UserError:
        return UserError(f"{self._path}: cannot be written ({error.strerror})")


class AppendedParts:
    """A series of objects in a bucket, which cannot be appended to.

    The newest is written again with more records at every `flush`, until it has `PART_BYTES` or is
    `PART_SECONDS` old.
    """

    def __init__(
        self,
        path: Callable[[int], Path],
        header: bytes = b"",
        may_write: Callable[[], bool] = lambda: True,
    ):
        """Creates an empty series.

        Args:
          path: returns that of a part by its number from 0; none of them exists yet.
          header: at the start of each part.
          may_write: nothing more is written once this returns False.
        """
        self._path, self._header, self._may_write = path, header, may_write
        self._number, self._began = 0, 0.0
        self._data, self._written = bytearray(), 0

    def append(self, data: bytes) -> None:
        """See `Appended`; the record is only in memory."""
        if not self._data:
            self._data += self._header
            self._began = time.monotonic()
        self._data += data

    def flush(self) -> None:
        """See `Appended`."""
        if len(self._data) == self._written or not self._may_write():
            return
        write_bytes(self._path(self._number), bytes(self._data))
        self._written = len(self._data)
        age = time.monotonic() - self._began
        if self._written >= PART_BYTES or age >= PART_SECONDS:
            self._number += 1
            self._data, self._written = bytearray(), 0

    def close(self) -> None:
        """See `Appended`."""
        self.flush()
