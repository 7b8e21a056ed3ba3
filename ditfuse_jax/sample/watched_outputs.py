"""Notices that another process writes the files of a job, so that results are not mixed."""

import os
from collections.abc import Iterable
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import is_remote
from ditfuse_jax.sample.fingerprints import has_fingerprint


class WatchedOutputs:
    """The files that a job will write, as they were when it began; those in buckets are trusted."""

    def __init__(self, paths: Iterable[Path]):
        """Remembers what is there.

        Raises:
          OSError: the system takes no such name.
        """
        self._versions = {path: _version(path) for path in paths if not is_remote(path)}

    def is_made(self, path: Path, fingerprint: str) -> bool:
        """Whether another process has written a file of this fingerprint since the job began.

        Raises:
          UserError: it has written another file of this name.
        """
        if path not in self._versions:
            return False
        now = _version(path)
        if now in (None, self._versions[path]):  # a file that was removed is missed by nobody
            return False
        if has_fingerprint(path, fingerprint):
            return True
        raise UserError(
            f"{path}: was written by another process while this one worked: give each its own "
            "output folder"
        )


def _version(path: Path) -> tuple[int, int, int] | None:
    """Tells states of a file apart; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
