"""A folder that one process at a time works in, as long as it runs."""

import contextlib
import os
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason

_NAME = ".lock"


class FolderLock:
    """Held until `release`; the system releases it when its process ends, however that happens."""

    def __init__(self, folder: Path):
        """Takes the lock of a folder, which exists.

        Raises:
          UserError: another process, or another job of this one, holds it.
        """
        self._path, self._file = folder / _NAME, -1
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        while self._file < 0:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise UserError(f"{self._path}: cannot be written ({reason(error)})") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.read(file, 20).decode("ascii", "replace").strip() or "unknown"
                os.close(file)
                raise UserError(
                    f"{folder} is in use by process {owner}: the same job runs already; wait until "
                    "it ends, or choose another output"
                ) from error
            except OSError:  # a file system without locks
                os.close(file)
                return
            if self._is_current(file):
                os.truncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                self._file = file
            else:  # its holder has removed it since it was opened
                os.close(file)

    def release(self) -> None:
        """Lets others take the lock, and removes its file."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                if self._is_current(self._file):
                    self._path.unlink()
            os.close(self._file)
            self._file = -1

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except OSError:
            return False
