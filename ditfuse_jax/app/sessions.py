"""The files of the people who have the page open: deleted when they close it."""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from ditfuse_jax.errors import UserError

_RESULTS = 4  # kept for each session
_CLOSED = 10_000  # closed sessions that are remembered
_UPLOAD_SECONDS = 300  # after which an empty file is no upload that has just begun


class Sessions:
    """Files by session.

    Uploads lie where gradio puts them, by their content: the same file of two sessions is one.
    """

    def __init__(self, folder: Path):
        """Creates the store.

        Args:
          folder: that of gradio; nothing outside of it is ever deleted.
        """
        self._folder = folder.resolve()
        self._uploads: dict[str, set[Path]] = {}
        self._counts: dict[str, int] = {}
        self._closed: dict[str, None] = {}  # in their order
        self._lock = threading.Lock()

    def add_uploads(self, session: str, paths: Iterable[str]) -> None:
        """Notes the files that a session has sent; those of a closed one are deleted."""
        with self._lock:
            found = {path for path in map(Path, paths) if self._is_upload(path)}
            if session in self._closed:
                self._delete(found)
            else:
                self._uploads.setdefault(session, set()).update(found)

    def check(self, session: str) -> None:
        """Checks that a session has its files.

        Raises:
          UserError: it was closed.
        """
        if session in self._closed:
            raise UserError("the page was closed and its files are deleted: load it again")

    def new_result(self, session: str) -> Path:
        """Returns an empty folder for a result; those of older results are deleted.

        Raises:
          UserError: the session was closed: nobody would delete the folder.
        """
        with self._lock:
            self.check(session)
            number = self._counts[session] = self._counts.get(session, 0) + 1
            home = self._home(session)
            if number > _RESULTS:
                shutil.rmtree(home / str(number - _RESULTS), ignore_errors=True)
            folder = home / str(number)
            folder.mkdir(parents=True)
            return folder

    def close(self, session: str) -> None:
        """Deletes the results of a session, and its uploads that no other session has."""
        with self._lock:
            mine = self._uploads.pop(session, set())
            self._counts.pop(session, None)
            self._closed[session] = None
            while len(self._closed) > _CLOSED:
                del self._closed[next(iter(self._closed))]
            self._delete(mine)
            shutil.rmtree(self._home(session), ignore_errors=True)
            self._sweep()

    def _delete(self, paths: set[Path]) -> None:
        """Deletes uploads that no session has, and their folders if they are empty."""
        others = set().union(*self._uploads.values()) if self._uploads else set()
        for path in paths - others:
            # A file that cannot be deleted keeps no other one; gradio deletes it after a day.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                if path.parent != self._folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()

    def _sweep(self) -> None:
        """Deletes the empty files that gradio leaves for every upload that it reads."""
        for path in self._folder.glob("tmp*"):
            with contextlib.suppress(OSError):  # gradio may delete or move it at the same time
                facts = path.stat()
                if not facts.st_size and time.time() - facts.st_mtime > _UPLOAD_SECONDS:
                    path.unlink(missing_ok=True)

    def _home(self, session: str) -> Path:
        name = "".join(c for c in session if c.isalnum())
        return self._folder / f"session-{name}"

    def _is_upload(self, path: Path) -> bool:
        inside = path.resolve().is_relative_to(self._folder)
        return inside and "examples" not in path.resolve().relative_to(self._folder).parts
