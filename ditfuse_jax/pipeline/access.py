"""Reading data from disks and object stores; what cannot be read is an error that ends the run."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import TemporaryError, UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images import decode_image, decode_labels, read_image, read_labels
from ditfuse_jax.paths import is_remote

_stores: dict[str, Any] = {}  # by scheme


class DataAccessError(UserError):
    """Data that exist could not be read, so that no record may be skipped: it ends the run.

    Requests to an object store have been repeated before, see `storage.retries`.
    """


class DataUnavailableError(DataAccessError, TemporaryError):
    """Data in a store that does not answer; the error comes from worker processes too."""


def read_range(path: Path, start: int, end: int | None) -> bytes:
    """Reads the bytes [start, end) of a file in one request; `end=None` is its end.

    Raises:
      DataAccessError: it cannot be read, or is shorter.
    """
    try:
        if is_remote(path):
            data = _store(path).cat_file(str(path), start=start, end=end)
        else:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read() if end is None else file.read(end - start)
    except OSError as error:
        raise unreadable(path, error) from error
    if end is not None and len(data) != end - start:
        raise DataAccessError(f"{path} is shorter than {end} bytes: pack the data again")
    return data


def _store(path: Any) -> Any:
    """Returns the file system of a path; fsspec would make one, with a login, for each thread."""
    scheme = str(path).partition(":")[0]
    if scheme not in _stores:
        _stores[scheme] = path.filesystem
    return _stores[scheme]


def read_object(path: Path) -> bytes:
    """Reads a file of an object store in one request.

    Raises:
      UserError: it does not exist.
      DataAccessError: it cannot be read.
    """
    try:
        return _store(path).cat_file(str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise unreadable(path, error) from error


def load_image(path: Path, labels: bool = False) -> np.ndarray:
    """Returns the image in a file, or its class numbers: `uint8 (H, W, 3)`.

    Raises:
      UserError: see `images.read_image` and `read_labels`.
      DataAccessError: the object store does not answer.
    """
    if is_remote(path):
        return (decode_labels if labels else decode_image)(read_object(path), str(path))
    return (read_labels if labels else read_image)(path)


def names_in(folder: Path) -> set[str]:
    """Returns the names of what a folder holds; nothing if it does not exist.

    Raises:
      DataAccessError: it cannot be listed.
    """
    try:
        if is_remote(folder):
            return {path.name for path in folder.iterdir()}
        return set(os.listdir(folder)) if folder.is_dir() else set()
    except OSError as error:
        raise unreadable(folder, error) from error


def files_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields (path of a folder below, name) of the files at any depth, without hidden folders.

    An object store is asked for all names at once.

    Raises:
      DataAccessError: it cannot be listed.
    """
    if not is_remote(folder):
        for parent, folders, files in os.walk(folder, followlinks=True):
            folders[:] = [name for name in folders if not _hidden(name)]
            below = Path(parent).relative_to(folder).as_posix()
            yield from (("" if below == "." else below, name) for name in files)
        return
    remote: Any = folder
    try:
        found = remote.filesystem.find(str(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
    start = len(str(folder).partition("://")[2].rstrip("/")) + 1
    for path in sorted(found):
        *folders, name = path[start:].split("/")
        if not any(map(_hidden, folders)):
            yield "/".join(folders), name


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


class Existing:
    """Tells which files exist; a folder of an object store is listed once."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __call__(self, path: Path) -> bool:
        """Returns whether there is such a file.

        Raises:
          DataAccessError: its folder cannot be listed.
        """
        if not is_remote(path):
            return path.is_file()
        folder = str(path.parent)
        if folder not in self._names:
            self._names[folder] = names_in(path.parent)
        return path.name in self._names[folder]


def publish(temporary: Path, path: Path) -> None:
    """Moves a finished local file to its place, which shows the whole file or none of it.

    Raises:
      OSError: it cannot be written.
    """
    if is_remote(path):
        remote: Any = path
        remote.filesystem.put_file(str(temporary), str(path))
        temporary.unlink()
    else:
        temporary.replace(path)


def folder_of_temporaries(folder: Path) -> Path:
    """Returns where files are written before they are published in a folder."""
    return Path(tempfile.gettempdir()) if is_remote(folder) else folder


def unreadable(path: Path, error: OSError) -> DataAccessError:
    """Returns the error for what could not be read."""
    advice = "check the bucket's name, your credentials and their permissions"
    passes = isinstance(error, TemporaryError)
    return (DataUnavailableError if passes else DataAccessError)(
        f"{path} cannot be read ({reason(error)})" + (f": {advice}" if is_remote(path) else "")
    )
