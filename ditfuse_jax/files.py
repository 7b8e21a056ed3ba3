"""Atomic writing of files, local or in an object store; failures name the file."""

import atexit
import contextlib
import errno
import functools
import hashlib
import itertools
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import is_remote

# JAX's environment variable for the folder of compiled programs.
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"

# Names the folder of compiled programs that are loaded without tracing; see `xla/kept_programs.py`.
PROGRAMS_VARIABLE = "DITFUSE_PROGRAMS"

_HEAD = 4096  # bytes by which a text is told from other files

_writable_buckets: set[str] = set()


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file so that a failure keeps the older one.

    A local file is written under a temporary name and renamed; an object appears when it is whole.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        if is_remote(path):
            path.write_bytes(data)
            return
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise _write_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text like `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def create_exclusively(path: Path, data: bytes) -> bool:
    """Writes a file unless there is one of its name; of several processes only one succeeds.

    Args:
      path: the file; its folder exists.
      data: different in each process that may try.

    Returns:
      Whether this call wrote the file.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        if is_remote(path):
            remote: Any = path
            return remote.create(data)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            _link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except (OSError, ValueError) as error:
        raise _write_error(path, error) from error
    return True


def _link(temporary: Path, path: Path) -> None:
    """Gives a file another name, which must be new, where the file system can do that."""
    try:
        os.link(temporary, path)  # unlike `open(path, "x")`, never seen without its content
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        with path.open("xb") as file:  # e.g. a bucket that is mounted by gcsfuse
            file.write(temporary.read_bytes())


def new_file(path: Path, label: str) -> Path:
    """Returns `name_label.suffix`, or `name_label_2.suffix`, ..., whichever does not exist yet."""
    names = itertools.chain([label], (f"{label}_{count}" for count in itertools.count(2)))
    files = (path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names)
    return next(file for file in files if not file.exists())


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents, unless it exists.

    In an object store there is nothing to create: a process checks once per bucket that it can
    write there, so that a command fails before it has computed anything.

    Raises:
      UserError: the folder cannot be created.
    """
    if is_remote(folder):
        bucket = str(folder).split("/")[2]
        if bucket not in _writable_buckets:
            check_folder(folder)
            _writable_buckets.add(bucket)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be created ({error.strerror})") from error


def prepare_file(path: Path) -> None:
    """Makes the folder of a file, before the work whose results the file will hold.

    Raises:
      UserError: the folder cannot be created, or the file is a folder.
    """
    if not is_remote(path) and path.is_dir():
        raise UserError(f"{path} is a folder: name a file")
    make_folder(path.parent)


def prepare_text_file(path: Path) -> None:
    """Makes the folder of a text file, as `prepare_file` does.

    Raises:
      UserError: see `prepare_file` and `check_text_file`.
    """
    check_text_file(path)
    prepare_file(path)


def check_text_file(path: Path) -> None:
    """Checks that a text that is written to a path replaces no image, video or other binary file.

    Raises:
      UserError: it would.
    """
    try:
        head = b"" if is_remote(path) or not path.is_file() else read_range(path, 0, _HEAD)
    except OSError:  # as for an unreadable file: writing it will tell
        return
    if b"\0" in head:
        raise UserError(f"{path} exists and is no text: choose another file")


def remove_folder(folder: Path) -> None:
    """Removes a folder and what it holds, if it exists."""
    if is_remote(folder):
        remote: Any = folder
        remote.rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Creates a folder and checks that files can be written to it and removed.

    Raises:
      UserError: it cannot be written, or is a file.
    """
    if not is_remote(folder):
        make_folder(folder)
    probe = folder / f".writable.{uuid.uuid4().hex}"
    write_bytes(probe, b"")
    probe.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Checks like `check_folder`, and leaves no folder that was not there before.

    Raises:
      UserError: see `check_folder`.
    """
    made: list[Path] = []
    if not is_remote(folder):
        places = (folder, *folder.parents)
        made += itertools.takewhile(lambda place: not os.path.exists(place), places)
    try:
        check_folder(folder)
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # it was not made, or is used by others already
                one.rmdir()


def read_range(path: Path, start: int, stop: int) -> bytes:
    """Returns a file's bytes from `start` to `stop`, fewer at its end.

    Raises:
      OSError: it cannot be read.
    """
    if is_remote(path):
        remote: Any = path
        return remote.read_range(start, stop)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        parts = []
        while start < stop and (part := file.read(stop - start)):
            parts.append(part)
            start += len(part)
    return b"".join(parts)


def copy_file(source: Path, target: Path) -> None:
    """Copies the content of a file."""
    if is_remote(source):
        target.write_bytes(source.read_bytes())
    else:
        shutil.copyfile(source, target)


@functools.cache
def local_copy(folder: Path, names: tuple[str, ...]) -> Path:
    """Returns a folder that libraries without object stores can read.

    Args:
      folder: returned as it is if it is local.
      names: of the files to copy otherwise; those that do not exist are left out.  The copy is
        removed when the process ends.
    """
    if not is_remote(folder):
        return folder
    copy = Path(tempfile.mkdtemp(prefix="ditfuse-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (copy / name).write_bytes((folder / name).read_bytes())
    return copy


def list_folder(folder: Path) -> list[Path]:
    """Returns what a folder holds, sorted; nothing if it does not exist."""
    return sorted(folder.iterdir()) if is_remote(folder) or folder.is_dir() else []


def list_kinds(folder: Path) -> list[tuple[Path, bool]]:
    """Returns what a folder holds, sorted, each with whether it is a folder."""
    if is_remote(folder):
        remote: Any = folder
        return sorted(remote.entries())
    return [(path, path.is_dir()) for path in list_folder(folder)]


def reason(error: BaseException) -> str:
    """Returns why a file could not be read or written, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def sha256(path: Path) -> str:
    """Returns the SHA-256 hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_error(path: Path, error: OSError | ValueError) -> UserError:
    if is_remote(path):
        bucket = str(path).split("/")[2]
        absent = isinstance(error, FileNotFoundError)
        why = f"there is no bucket {bucket!r}" if absent else reason(error)
        return UserError(
            f"{path}: cannot be written ({why}); check the bucket's name, your credentials and "
            "their permissions"
        )
    return UserError(
        f"{path}: cannot be written ({reason(error)}); free space or choose another folder"
    )


def compilation_cache() -> Path:
    """Returns the folder for compiled programs: JAX's environment variable, or the user's cache.

    A user without a home folder gets a temporary one, which is removed when the process ends.
    """
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    home = os.path.expanduser("~")
    if home == "~":  # neither HOME nor an entry in the list of users
        folder = tempfile.mkdtemp(prefix="ditfuse-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    return Path(home, ".cache", "ditfuse_jax", "xla")
