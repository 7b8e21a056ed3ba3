"""Archives as they were downloaded: unpacked once, beside themselves."""

import contextlib
import shutil
import tarfile
import uuid
import zipfile
from pathlib import Path

from ditfuse_jax.errors import UserError

_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_FOREIGN = (".rar", ".7z")  # no reader in Python's library


def is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((".zip", *_TAR, *_FOREIGN))


def unpack(archive: Path) -> Path:
    """Returns the folder beside an archive that has its name, unpacking it there if need be.

    It is unpacked under a temporary name, so that an interrupted run leaves nothing half done.

    Raises:
      UserError: it is damaged, of a kind that cannot be read, or there is no room.
    """
    name = archive.name
    suffix = next(s for s in (".zip", *_TAR, *_FOREIGN) if name.lower().endswith(s))
    folder = archive.with_name(name[: -len(suffix)])
    if folder.is_dir():
        return folder
    if suffix in _FOREIGN:
        raise UserError(
            f"{archive}: unpack it yourself into {folder}: {suffix} cannot be read here"
        )
    temporary = archive.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        if suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(temporary)
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(temporary, filter="data")
        temporary.rename(folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{archive}: is damaged or incomplete ({error}): download it again"
        ) from error
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster
            raise UserError(
                f"{archive}: cannot be unpacked ({error.strerror or error}): unpack it yourself "
                "where there is room and name that folder"
            ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return folder
