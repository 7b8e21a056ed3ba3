"""The files of the people who have the page open: deleted when they close it."""

import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

_RESULTS = 4  # kept for each session
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
        self._lock = threading.Lock()

    def add_uploads(self, session: str, paths: Iterable[str]) -> None:
        """Notes the files that a session has sent."""
        with self._lock:
            held = self._uploads.setdefault(session, set())
            held.update(path for path in map(Path, paths) if self._is_upload(path))

    def new_result(self, session: str) -> Path:
        """Returns an empty folder for a result; those of older results are deleted."""
        with self._lock:
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
            others = set().union(*self._uploads.values()) if self._uploads else set()
            for path in mine - others:
                path.unlink(missing_ok=True)
                if path.parent != self._folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()
            shutil.rmtree(self._home(session), ignore_errors=True)
            self._sweep()

    def _sweep(self) -> None:
        """Deletes the empty files that gradio leaves for every upload that it reads."""
        for path in self._folder.glob("tmp*"):
            facts = path.stat()
            if not facts.st_size and time.time() - facts.st_mtime > _UPLOAD_SECONDS:
                path.unlink(missing_ok=True)

    def _home(self, session: str) -> Path:
        name = "".join(c for c in session if c.isalnum())
        return self._folder / f"session-{name}"

    def _is_upload(self, path: Path) -> bool:
        inside = path.resolve().is_relative_to(self._folder)
        return inside and "examples" not in path.resolve().relative_to(self._folder).parts
