"""Atomic writing of files; failures name the file."""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from ditfuse_jax.errors import UserError

# JAX's environment variable for the folder of compiled programs.
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file under a temporary name and renames it, so that a failure keeps the older file.

    Raises:
      UserError: the file cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path}: cannot be written ({reason}); free space or choose another folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text like `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents, unless it exists.

    Raises:
      UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be created ({error.strerror})") from error


def sha256(path: Path) -> str:
    """Returns the SHA-256 hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def compilation_cache() -> Path:
    """Returns the folder for compiled programs: JAX's environment variable, or the user's cache."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "ditfuse_jax", "xla")
    return Path(os.environ.get(CACHE_VARIABLE) or default)
