"""Archives as they were downloaded: unpacked once, beside themselves."""

import contextlib
import shutil
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ditfuse_jax.errors import UserError

_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_FOREIGN = (".rar", ".7z")  # Python's library reads none of these
_SUFFIXES = (".zip", *_TAR, *_FOREIGN)


def is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_SUFFIXES)


def is_readable(archive: Path) -> bool:
    return not archive.name.lower().endswith(_FOREIGN)


def target(archive: Path) -> Path:
    """The folder that an archive is unpacked into: beside it, of its name."""
    suffix = next(s for s in _SUFFIXES if archive.name.lower().endswith(s))
    return archive.with_name(archive.name[: -len(suffix)])


def members(archive: Path) -> list[str]:
    """Returns the paths of the files in an archive.

    Raises:
      UserError: as `unpack`.
    """
    with _told(archive):
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                return [name for name in packed.namelist() if not name.endswith("/")]
        with tarfile.open(archive) as packed:
            return [member.name for member in packed if member.isfile()]


def unpack(archive: Path) -> Path:
    """Returns the folder beside an archive that has its name, unpacking it there if need be.

    It is unpacked under a temporary name, so that an interrupted run leaves nothing half done.

    Raises:
      UserError: it is damaged, of a kind that cannot be read, or there is no room.
    """
    folder = target(archive)
    if folder.is_dir():
        return folder
    temporary = archive.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with _told(archive):
            if archive.name.lower().endswith(".zip"):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(temporary)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(temporary, filter="data")
            with contextlib.suppress(OSError):  # another process was faster: the same files
                temporary.rename(folder)
            if not folder.is_dir():
                raise OSError(f"{folder} is in the way")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _told(archive: Path) -> Iterator[None]:
    if not is_readable(archive):
        raise UserError(
            f"{archive}: unpack it yourself into {target(archive)}: {archive.suffix} cannot be "
            "read here"
        )
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{archive}: is damaged or incomplete ({error}): download it again"
        ) from error
    except OSError as error:
        raise UserError(
            f"{archive}: cannot be unpacked ({error.strerror or error}): unpack it yourself where "
            "there is room and name that folder"
        ) from error
