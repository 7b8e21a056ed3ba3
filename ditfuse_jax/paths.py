"""Paths that users give: local ones, and `gs://` and `s3://` for object stores."""

import importlib.util
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ditfuse_jax.errors import UserError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
)

# Scheme -> module that reads and writes it, which is also the name of the extra, almost.
_MODULES = {"gs": "gcsfs", "s3": "s3fs"}
_EXTRAS = {"gs": "gcs", "s3": "s3"}
SUPPORTED = " and ".join(f"{scheme}://" for scheme in _MODULES)

# `pathlib` turns `gs://bucket` into `gs:/bucket`.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
# Without a slash only these are schemes: a local file may have a colon in its name.
_FOREIGN = re.compile(r"(abfss?|az|file|ftp|gcs|gs|hdfs|hf|https?|memory|s3a?|sftp|wasbs?):")


def as_path(given: str | os.PathLike[str]) -> Path:
    """Turns what a user gives into a path.

    Args:
      given: a local path, whose `~` is expanded, or `gs://bucket/...` or `s3://bucket/...`.

    Returns:
      A `pathlib.Path`, or for an object store an `etils.epath.Path`, which has the same methods:
      it is typed as the former so that callers need not tell them apart.  `is_remote` does.

    Raises:
      UserError: nothing is given, another scheme, no bucket, an unknown user after `~`, a NUL
        character, or the extra for the store is not installed.
    """
    if is_remote(given):
        return cast(Path, given)
    text = os.fspath(given)
    if not text:
        raise UserError("an empty path: name a file or folder; is a variable of the shell unset?")
    if "\0" in text:
        raise UserError(f"{text}: holds a NUL character, which no path does")
    match = _URI.match(text)
    if match is None:
        if _FOREIGN.match(text) and not os.path.lexists(text):
            raise UserError(_refusal(text))
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise UserError(f"{text}: there is no such user: give the whole path") from error
    scheme, rest = match[1].lower(), match[2]
    if scheme not in _MODULES:
        raise UserError(_refusal(text))
    if not rest.strip("/"):
        raise UserError(f"{text} names no bucket: give {scheme}://BUCKET/FOLDER")
    if importlib.util.find_spec(_MODULES[scheme]) is None:
        raise UserError(
            f"{text}: {_MODULES[scheme]} is not installed: pip install "
            f"'ditfuse-jax[{_EXTRAS[scheme]}]'"
        )
    from ditfuse_jax.storage.remote_path import RemotePath

    return cast(Path, RemotePath(f"{scheme}://{rest}"))


def model_path(given: str | os.PathLike[str]) -> Path:
    """Turns what names a model into a path: also an address on the Hub, `hf://OWNER/NAME`.

    An address stays one for `hub.is_address`.

    Raises:
      UserError: see `as_path`.
    """
    text = os.fspath(given)
    return Path(text) if text.startswith("hf:/") else as_path(given)


def is_remote(path: Any) -> bool:
    """Returns whether a path that `as_path` made is in an object store."""
    return not isinstance(path, (str, Path)) and str(path).startswith(("gs://", "s3://"))


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends like a video file."""
    return Path(str(path)).suffix.lower() in VIDEO_SUFFIXES


def check_different_folders(folders: Sequence[Path]) -> None:
    """Checks that no folder is named twice: its images would be fused with themselves.

    Raises:
      UserError: two of them are one.
    """
    for one, other in itertools.combinations(folders, 2):
        if same_folder(one, other):
            named = f"{one} is named twice" if one == other else f"{one} and {other} are one folder"
            raise UserError(
                f"{named}: name a folder for each source; images of equal names belong together"
            )


def same_folder(one: Path, other: Path) -> bool:
    """Returns whether two paths lead to one folder, also by links; one that is missing is none."""
    if is_remote(one) or is_remote(other):
        return str(one).rstrip("/") == str(other).rstrip("/")
    return one.is_dir() and other.is_dir() and one.samefile(other)


def _refusal(text: str) -> str:
    scheme = text.partition(":")[0]
    return (
        f"{text}: {scheme}: is not supported: give a local path, or one that starts with "
        f"{SUPPORTED.replace(' and ', ' or ')}"
    )
