"""Downloaded archives: listed, and unpacked once into a folder beside the archive."""

import contextlib
import errno
import gzip
import lzma
import shutil
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ditfuse_jax.errors import UserError

_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_UNSUPPORTED = (".rar", ".7z")  # not read by Python's standard library
ARCHIVE_SUFFIXES = (".zip", *_TAR, *_UNSUPPORTED)

# What unpacking raises for files that are not as they were made.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
)


def is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def is_readable(archive: Path) -> bool:
    return not archive.name.lower().endswith(_UNSUPPORTED)


def target(archive: Path) -> Path:
    """Returns the folder that an archive is unpacked into: its path without suffix."""
    suffix = next(s for s in ARCHIVE_SUFFIXES if archive.name.lower().endswith(s))
    return archive.with_name(archive.name[: -len(suffix)])


def members(archive: Path) -> list[str]:
    """Returns the paths of the files in an archive.

    Raises:
      UserError: as `unpack`.
    """
    with _user_errors(archive):
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                return [name for name in packed.namelist() if not name.endswith("/")]
        with tarfile.open(archive) as packed:
            return [member.name for member in packed if member.isfile()]


def unpack(archive: Path) -> Path:
    """Returns the folder of an archive's files, and unpacks the archive unless it exists.

    Unpacking happens under a temporary name, so that an interruption leaves no partial folder.

    Raises:
      UserError: the archive is damaged or of an unsupported kind, or the disk is full.
    """
    folder = target(archive)
    if folder.is_dir():
        return folder
    temporary = archive.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with _user_errors(archive):
            if archive.name.lower().endswith(".zip"):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(temporary)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(temporary, filter="data")
                    _check_end(packed)
            with contextlib.suppress(OSError):  # another process may have unpacked the same files
                temporary.rename(folder)
            if not folder.is_dir():
                raise FileExistsError(errno.EEXIST, f"{folder} is in the way")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_end(packed: tarfile.TarFile) -> None:
    """Reads a tar file to its end, where the checksum of the compression is compared."""
    assert packed.fileobj is not None
    while packed.fileobj.read(1 << 20):
        pass


def _damaged(archive: Path, error: Exception) -> UserError:
    lines = str(error).splitlines() or [type(error).__name__]  # tarfile lists all its attempts
    reason = lines[0].rstrip(":")
    return UserError(f"{archive}: is damaged or incomplete ({reason}): download it again")


@contextlib.contextmanager
def _user_errors(archive: Path) -> Iterator[None]:
    if not is_readable(archive):
        raise UserError(
            f"{archive}: {archive.suffix} cannot be read here: unpack it yourself into "
            f"{target(archive)}"
        )
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except RuntimeError as error:  # encrypted, or a compression that Python lacks
        raise UserError(
            f"{archive}: cannot be unpacked here ({error}): unpack it yourself into "
            f"{target(archive)}"
        ) from error
    except OSError as error:
        if error.errno is None:  # from the decompression of bz2, not from the disk
            raise _damaged(archive, error) from error
        raise UserError(
            f"{archive}: cannot be unpacked ({error.strerror or error}): unpack it yourself into "
            "another folder and name that folder"
        ) from error
