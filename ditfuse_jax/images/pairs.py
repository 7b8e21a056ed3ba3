"""Groups of image files that belong together: equal names in sibling folders, equal sizes."""

import contextlib
import fnmatch
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.decode import list_images, local_or_remote
from ditfuse_jax.paths import is_remote

MAX_STACK = 4
_NAMES_SHOWN = 3


def check_same_size(images: Sequence[np.ndarray], names: Sequence[str | os.PathLike[str]]) -> None:
    """Raises UserError, with both sizes, unless all images `(H, W, ...)` have equal H and W."""
    first_height, first_width = images[0].shape[:2]
    for image, name in zip(images[1:], names[1:], strict=True):
        height, width = image.shape[:2]
        if (height, width) != (first_height, first_width):
            raise UserError(
                f"{names[0]} is {first_width}x{first_height} but {name} is {width}x{height}"
                " (width x height): images to fuse must have the same size"
            )


def paired_files(
    folder_a: str | os.PathLike[str],
    folder_b: str | os.PathLike[str],
    *more: str | os.PathLike[str],
) -> list[tuple[Path, ...]]:
    """Returns the files with equal stems in all folders, one tuple per stem, sorted by stem.

    The suffix may differ between folders.

    Raises:
      UserError: a folder is missing or empty, has two files of one stem, or lacks a stem of another
        folder.
    """
    folders = [local_or_remote(folder) for folder in (folder_a, folder_b, *more)]
    by_stem = [files_by_stem(folder) for folder in folders]
    stems = set().union(*by_stem)
    for folder, files in zip(folders, by_stem, strict=True):
        lacking = sorted(stems - files.keys())
        if lacking:
            shown = ", ".join(lacking[:_NAMES_SHOWN])
            rest = f" and {len(lacking) - _NAMES_SHOWN} more" if lacking[_NAMES_SHOWN:] else ""
            raise UserError(f"{folder}: no image named {shown}{rest}, as in the other folder")
    return [tuple(files[stem] for files in by_stem) for stem in sorted(stems)]


def list_stacks(folder: str | os.PathLike[str]) -> list[tuple[str, list[Path]]]:
    """Returns `(stem, paths)` of each stack in `folder/image1 folder/image2 [... image4]`.

    Raises:
      UserError: see `numbered_folders`; or the folders' files do not match (see `paired_files`).
    """
    stacks = paired_files(*numbered_folders(folder))
    return [(paths[0].stem, list(paths)) for paths in stacks]


def numbered_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the folders `image1/`, `image2/`, ... inside a folder.

    Raises:
      UserError: the folder is missing, or does not hold 2 to 4 folders numbered from 1.
    """
    folder = local_or_remote(folder)
    # An object store has only folders with files, and would be asked about each one.
    if not is_remote(folder) and not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    try:
        inside = sorted(path for path in folder.iterdir() if is_remote(path) or path.is_dir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({reason(error)})") from error
    present = {path.name for path in inside if fnmatch.fnmatchcase(path.name, "image[0-9]*")}
    expected = [f"image{number}" for number in range(1, len(present) + 1)]
    if present != set(expected) or not 2 <= len(present) <= MAX_STACK:
        found = " ".join(sorted(present)) or "none"
        raise UserError(
            f"{folder}: needs 2 to {MAX_STACK} folders named image1, image2, ...; found: {found}"
            f"{'' if present else _offer(folder, inside)}"
        )
    return [folder / name for name in expected]


def _offer(folder: Path, inside: Sequence[Path]) -> str:
    """What may be meant by a folder without numbered folders."""
    deeper = [path for path in inside if not is_remote(path) and (path / "image1").is_dir()]
    if deeper:
        return f"; {len(deeper)} folders inside have them, like {deeper[0]}: name one of those"
    if len(inside) >= 2 and not is_remote(inside[0]):
        return f"; to fuse the folders inside with each other name them: {inside[0]} {inside[1]}"
    with contextlib.suppress(UserError):
        list_images(folder)
        return (
            "; it holds images: put those of each camera into a folder of its own, image1 and "
            "image2, under equal names"
        )
    return ""


def shared_name(stem: str) -> str:
    """Returns the form of a name by which images belong together.

    Of letters with marks, such as `é`, Unicode has two forms, which look the same: macOS and others
    write different ones (NFD and NFC).
    """
    return unicodedata.normalize("NFC", stem)


def files_by_stem(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Returns stem -> path of the image files directly inside a folder, sorted by stem.

    Stems have the form of `shared_name`.

    Raises:
      UserError: the folder is missing or empty, or has two files of one stem.
    """
    files: dict[str, Path] = {}
    for path in list_images(folder):
        name = shared_name(path.stem)
        if name in files:
            raise UserError(
                f"{folder}: {files[name].name} and {path.name} have the same stem, so pairs"
                " are ambiguous: keep one"
            )
        files[name] = path
    return files
