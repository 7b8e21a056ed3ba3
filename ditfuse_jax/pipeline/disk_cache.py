"""A bounded copy on local disk of records that were read from an object store.

Beside the records it holds, each shard has a file with as many bytes as records, which are 1 for
those that are there.  The records are at their own positions in a sparse file, so that all
processes of a machine share them without more bookkeeping.  What is there stays: training reads a
record once in each epoch, so replacing the oldest would leave little that is read again.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ditfuse_jax.files import make_folder, reason

_USED = "bytes_used"
_NUMBER = struct.Struct("<q")
_BLOCK = 4096  # of the file system
_failed: set[Path] = set()  # folders that could not be written
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DiskCache:
    """Parts of files, by the files' SHA-256 and the number of the part.

    Attributes:
      folder: of the copies; other data, runs and processes may use the same.
      limit: bytes of all copies in it.
    """

    folder: Path
    limit: int

    def __post_init__(self) -> None:
        make_folder(self.folder)

    def get(self, digest: str, part: int, start: int, end: int, read: Callable[[], bytes]) -> bytes:
        """Returns the bytes [start, end) of a file, from the copy if they are there.

        Args:
          digest: of the file's content.
          part: number of the part, which always has the same bytes.
          start, end: where it is.
          read: reads it from the file; what it returns is kept if there is room.
        """
        held = self._held(digest, part, start, end)
        if held is not None:
            return held
        data = read()
        if self.folder in _failed:
            return data
        try:
            if self._reserve(len(data)):
                with _opened(self.folder / f"{digest}.data") as file:
                    os.pwrite(file, data, start)
                with _opened(self.folder / f"{digest}.parts") as file:
                    os.pwrite(file, b"\1", part)
        except OSError as error:  # a full disk is no reason to end the run
            _failed.add(self.folder)
            _logger.warning("%s: nothing more is kept there (%s)", self.folder, reason(error))
        return data

    def drop(self, digest: str, part: int) -> None:
        """Forgets a part, whose copy is damaged."""
        with contextlib.suppress(OSError), _opened(self.folder / f"{digest}.parts") as file:
            os.pwrite(file, b"\0", part)

    def _held(self, digest: str, part: int, start: int, end: int) -> bytes | None:
        try:
            with _opened(self.folder / f"{digest}.parts", os.O_RDONLY) as file:
                if os.pread(file, 1, part) != b"\1":
                    return None
            with _opened(self.folder / f"{digest}.data", os.O_RDONLY) as file:
                data = os.pread(file, end - start, start)
        except OSError:
            return None
        return data if len(data) == end - start else None

    def _reserve(self, size: int) -> bool:
        """Counts the bytes of a part, for all processes; returns whether there was room for it."""
        size = (size // _BLOCK + 2) * _BLOCK  # the blocks that it touches
        with _opened(self.folder / _USED) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            (used,) = _NUMBER.unpack(os.pread(file, _NUMBER.size, 0) or _NUMBER.pack(0))
            if used + size > self.limit:
                return False
            os.pwrite(file, _NUMBER.pack(used + size), 0)
            return True


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    file = os.open(path, flags, 0o644)
    try:
        yield file
    finally:
        os.close(file)
