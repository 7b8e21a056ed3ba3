"""A job of many files: goes on past what cannot be fused, and says at the end what that was."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ditfuse_jax.errors import IncompleteError, UserError, one_line
from ditfuse_jax.images import FoundStacks, find_stacks, numbered_folders
from ditfuse_jax.images.pairs import MAX_STACK
from ditfuse_jax.paths import as_path, check_different_folders

_NAMES_SHOWN = 20  # of files that are no images


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is to be fused.

    Attributes:
      found: the stacks, and what was left out.
      folders: the folders that were searched; none if the images were named one by one.
      recursive: whether the folders inside them were searched too.
    """

    found: FoundStacks
    folders: tuple[Path, ...] = ()
    recursive: bool = False


def find_inputs(inputs: Sequence[Path | str], *, recursive: bool = False) -> Inputs:
    """Finds the stacks in what a user names.

    Args:
      inputs: two to four images of one scene; two to four folders with equal names; or a folder of
        folders `image1/`, `image2/`, ...
      recursive: search folders inside the folders too.

    Raises:
      UserError: the inputs do not belong together, or no stack was found.
    """
    paths = [as_path(path) for path in inputs]
    if len(paths) > MAX_STACK:
        what = "folders" if paths[0].is_dir() else "images"
        raise UserError(f"{len(paths)} {what}: at most four can be fused at once")
    are_folders = [path.is_dir() for path in paths]
    if len(paths) == 1:
        if not are_folders[0]:
            raise UserError(
                f"{paths[0]}: give two images, two folders, or a folder with image1/ and image2/"
            )
        paths = numbered_folders(paths[0])
    elif any(are_folders) and not all(are_folders):
        one = paths[are_folders.index(False)]
        raise UserError(f"{one} is no folder, but another input is: give images or folders")
    elif not any(are_folders):
        if recursive:
            raise UserError("--recursive needs folders")
        return Inputs(FoundStacks({paths[0].stem: tuple(paths)}))
    check_different_folders(paths)
    return Inputs(find_stacks(paths, recursive=recursive), tuple(paths), recursive)


def print_left_out(found: FoundStacks) -> None:
    """Prints to the error stream what in the folders is no image, and which were not searched."""
    if found.other_files:
        names = ", ".join(map(one_line, found.other_files[:_NAMES_SHOWN]))
        more = len(found.other_files) - _NAMES_SHOWN
        files = _count(len(found.other_files), "file")
        rest = f" and {more} more" if more > 0 else ""
        print(f"left out: {files} of a kind that is not read: {names}{rest}", file=sys.stderr)
    if found.nested:
        print(
            f"left out: {_count(len(found.nested), 'folder')} inside: "
            f"{', '.join(map(one_line, found.nested))}; --recursive takes the images in them too",
            file=sys.stderr,
        )


def raise_failures(failures: Mapping[str, str], total: int) -> None:
    """Prints every failure in a line to the error stream, and raises an error if there are any.

    Args:
      failures: name -> why.
      total: number of all stacks.

    Raises:
      IncompleteError: there are failures.
    """
    if not failures:
        return
    for name, why in failures.items():
        print(f"not fused: {one_line(name)}: {one_line(why)}", file=sys.stderr)
    raise IncompleteError(
        f"{len(failures)} of {total} could not be fused, see above; the others are finished: mend "
        "these and run the same command again",
        failures,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
