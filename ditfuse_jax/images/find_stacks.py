"""Finds the stacks of folders whose images have equal names, and says what is left out."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.decode import IMAGE_SUFFIXES, local_or_remote
from ditfuse_jax.images.pairs import shared_name
from ditfuse_jax.paths import is_remote


@dataclasses.dataclass(frozen=True)
class FoundStacks:
    """Attributes:
    stacks: name -> one file per folder, sorted by name; the name is the files' stem, below
      nested folders with their names in front: `day/1`.
    unusable: name -> why these images are no stack: no partner, a link to nothing, two files of one
      stem.
    other_files: files that are not images of a known kind.
    nested: folders inside that were not searched.
    """

    stacks: dict[str, tuple[Path, ...]]
    unusable: dict[str, str] = dataclasses.field(default_factory=dict)
    other_files: tuple[Path, ...] = ()
    nested: tuple[Path, ...] = ()


@dataclasses.dataclass
class _Listing:
    """What one folder holds."""

    files: dict[str, list[Path]] = dataclasses.field(default_factory=dict)
    broken: dict[str, Path] = dataclasses.field(default_factory=dict)
    others: list[Path] = dataclasses.field(default_factory=list)
    nested: list[Path] = dataclasses.field(default_factory=list)


def find_stacks(
    folders: Sequence[str | os.PathLike[str]], *, recursive: bool = False
) -> FoundStacks:
    """Finds the images with equal names in all folders.  Their suffixes may differ.

    Hidden files and folders do not count.

    Args:
      folders: two or more.
      recursive: search the folders inside too; images then belong together if their paths inside
        the folders are equal.

    Raises:
      UserError: a folder is missing or cannot be listed, or no name is in all of them.
    """
    places = [local_or_remote(folder) for folder in folders]
    listings = [_list(place, recursive) for place in places]
    stacks: dict[str, tuple[Path, ...]] = {}
    unusable: dict[str, str] = {}
    for name in sorted({name for one in listings for name in (*one.files, *one.broken)}):
        found = [one.files.get(name, []) for one in listings]
        lacking = [place for place, files in zip(places, found, strict=True) if not files]
        broken = [one.broken[name] for one in listings if name in one.broken]
        double = next((files for files in found if len(files) > 1), None)
        if broken:
            unusable[name] = f"{broken[0]} is a link to nothing"
        elif lacking:
            unusable[name] = f"no partner: {lacking[0]} has no image of this name"
        elif double:
            names = " and ".join(str(path) for path in double)
            unusable[name] = f"{names} have the same name, so the pair is ambiguous: keep one"
        else:
            stacks[name] = tuple(files[0] for files in found)
    others = tuple(path for one in listings for path in one.others)
    nested = tuple(path for one in listings for path in one.nested)
    if not stacks:
        raise UserError(_nothing_found(places, listings, unusable, nested))
    return FoundStacks(stacks, unusable, others, nested)


def _list(place: Path, recursive: bool) -> _Listing:
    if not is_remote(place) and not place.is_dir():
        raise UserError(f"{place}: no such folder")
    listing = _Listing()
    entered: set[str] = set()

    def enter(folder: Path, prefix: str) -> None:
        real = str(folder) if is_remote(folder) else os.path.realpath(folder)
        if real in entered:  # a link to a folder around it
            return
        entered.add(real)
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({reason(error)})") from error
        for path in paths:
            if not path.name.startswith("."):
                add(path, prefix)

    def add(path: Path, prefix: str) -> None:
        is_image, name = path.suffix.lower() in IMAGE_SUFFIXES, prefix + shared_name(path.stem)
        if _is_folder(path):
            if recursive:
                enter(path, f"{prefix}{path.name}/")
            else:
                listing.nested.append(path)
        elif is_image and (is_remote(path) or path.is_file()):
            listing.files.setdefault(name, []).append(path)
        elif is_image and path.is_symlink():
            listing.broken[name] = path
        else:
            listing.others.append(path)

    enter(place, "")
    return listing


def _is_folder(path: Path) -> bool:
    # An object store would be asked about each one.
    return not path.suffix if is_remote(path) else path.is_dir()


def _nothing_found(
    places: Sequence[Path],
    listings: Sequence[_Listing],
    unusable: dict[str, str],
    nested: Sequence[Path],
) -> str:
    """The message when no stack was found."""
    inside = f"; it holds folders, like {nested[0]}: --recursive searches them" if nested else ""
    for place, listing in zip(places, listings, strict=True):
        if not listing.files and not listing.broken:
            known = " ".join(sorted(IMAGE_SUFFIXES))
            return f"{place}: no images in this folder (looked for {known}){inside}"
    name, why = next(iter(unusable.items()))
    return (
        f"no image of {places[0]} has partners in the other folders: {name}: {why}; images belong "
        f"together if their names are equal but for the suffix{inside}"
    )
