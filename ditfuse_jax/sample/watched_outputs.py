"""Notices that another process writes the files of a job, so that results are not mixed."""

import os
from collections.abc import Iterable
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import is_remote
from ditfuse_jax.sample.fingerprints import has_fingerprint

_Version = tuple[int, int, int] | None


class WatchedOutputs:
    """The files that a job will write, as they were when it began; those in buckets are trusted."""

    def __init__(self, paths: Iterable[Path]):
        """Remembers what is there.

        Raises:
          OSError: the system takes no such name.
        """
        self._versions = {path: _version(path) for path in paths if not is_remote(path)}
        self._written: dict[Path, tuple[str, _Version]] = {}

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
        raise _mixed(path)

    def written(self, path: Path, fingerprint: str | None) -> None:
        """Remembers a file that this job has just written; without a fingerprint, nothing."""
        if path in self._versions and fingerprint is not None:
            self._written[path] = fingerprint, _version(path)

    def check(self) -> None:
        """Checks at the end that what this job has written is still there, or equal to it.

        Raises:
          UserError: another process has replaced a file.
        """
        for path, (fingerprint, version) in self._written.items():
            if _version(path) not in (None, version) and not has_fingerprint(path, fingerprint):
                raise _mixed(path)


def _mixed(path: Path) -> UserError:
    return UserError(
        f"{path}: was written by another process while this one worked: give each its own output "
        "folder"
    )


def _version(path: Path) -> _Version:
    """Tells states of a file apart; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
