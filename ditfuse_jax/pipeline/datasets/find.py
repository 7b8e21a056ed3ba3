"""Finds the examples of a data set in a folder or archive."""

import collections
import dataclasses
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES
from ditfuse_jax.paths import is_remote
from ditfuse_jax.pipeline.access import files_below
from ditfuse_jax.pipeline.datasets.archives import (
    ARCHIVE_SUFFIXES,
    is_archive,
    is_readable,
    members,
    target,
    unpack,
)
from ditfuse_jax.pipeline.datasets.dataset import LABEL, Dataset, Layout, compiled
from ditfuse_jax.pipeline.datasets.masks import numbered_mask

_NAMES_SHOWN = 3

# Path of an image below a folder, without suffix -> files.
_Index = Mapping[str, Sequence[Path]]
# Name of an example -> role -> files.
_Groups = dict[str, dict[str, list[Path]]]


@dataclasses.dataclass(frozen=True)
class Example:
    """The files of one example by role; extras may be missing."""

    name: str
    files: Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class _Found:
    layout: Layout
    groups: _Groups


def find_examples(
    dataset: Dataset, place: Path, split: str, *, partial: bool = False
) -> list[Example]:
    """Finds the examples of a split.

    If nothing is found in the folder, the archives in it are unpacked.

    Args:
      dataset: its description.
      place: a folder that holds the files at any depth, or the downloaded archive.
      split: a name in `dataset.splits`.
      partial: return the complete examples and log a warning about the others; otherwise the split
        must be complete.

    Returns:
      The examples in natural order of their names.

    Raises:
      UserError: nothing of the split was found, files or examples are missing, or files are
        ambiguous.
    """
    place = place if is_remote(place) else place.expanduser()
    found = _search_with_archives(dataset, place, split)
    where = f"{place}: {dataset.name}:{split}"
    problems = [*_ambiguous(found.groups), *_unpaired(found.groups, dataset.inputs)]
    examples = [
        Example(name, {role: paths[0] for role, paths in files.items()})
        for name, files in sorted(found.groups.items(), key=lambda item: natural(item[0]))
        if files.keys() >= set(dataset.inputs) and all(len(p) == 1 for p in files.values())
    ]
    expected = dataset.splits[split].count
    if not problems and expected not in (None, len(examples)):
        problems = [f"{len(examples)} examples instead of {expected}"]
    if problems:
        if not partial:
            raise UserError(
                f"{where}: {'; '.join(problems)}: complete it, or use the complete examples "
                f"({dataset.name}:partial in a source); to get it: {dataset.download}"
            )
        logging.getLogger(__name__).warning("%s: %s", where, "; ".join(problems))
    if not examples:
        raise UserError(f"{where}: no complete example; to get it: {dataset.download}")
    colors = found.layout.label_colors
    if colors is None:
        return examples
    return [
        dataclasses.replace(e, files={**e.files, LABEL: numbered_mask(e.files[LABEL], colors)})
        for e in examples
    ]


def natural(name: str) -> list[tuple[int, str]]:
    """Returns a sorting key for natural order: `a2` before `a10`."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name.lower())]


def _search_with_archives(dataset: Dataset, place: Path, split: str) -> _Found:
    if is_remote(place):
        return _search_remote(dataset, place, split)
    if not place.exists():
        raise UserError(
            f"{place}: no such folder or archive; to get {dataset.name}: {dataset.download}"
        )
    if place.is_file() and not is_archive(place):
        raise UserError(f"{place}: is neither a folder nor an archive (.zip, .tar)")
    folder = unpack(place) if place.is_file() else place
    found = _search(dataset, folder, split)
    archives = [path for path in sorted(folder.iterdir()) if is_archive(path)]
    if found is None:
        for archive in archives:
            if is_readable(archive) and _holds(dataset, archive, split):
                unpack(archive)
        found = _search(dataset, folder, split)
    if found is None:
        for archive in archives:
            if not is_readable(archive):
                unpack(archive)  # raises an error that says what to do
        raise _nothing_found(dataset, folder, split)
    return found


def _search_remote(dataset: Dataset, folder: Path, split: str) -> _Found:
    """Searches a folder of an object store, which is listed once and not written to."""
    if folder.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise UserError(
            f"{folder}: an archive in an object store is not read: unpack it there, or name the "
            "archive on a local disk"
        )
    found = _search(dataset, folder, split)
    if found is None:
        raise _nothing_found(dataset, folder, split)
    if found.layout.label_colors is not None:
        raise UserError(
            f"{folder}: the labels of {dataset.name} are colours, which are converted to class "
            "numbers beside them: copy it to a local disk, or pack it there (ditfuse prepare)"
        )
    return found


def _nothing_found(dataset: Dataset, folder: Path, split: str) -> UserError:
    sought = ", or ".join(_shown(dataset, layout, split) for layout in dataset.layouts)
    return UserError(
        f"{folder}: no {dataset.name}:{split} in it; looked for {sought}; to get it: "
        f"{dataset.download}"
    )


def _holds(dataset: Dataset, archive: Path, split: str) -> bool:
    """Returns whether an archive has files of the split."""
    expressions = [
        compiled(pattern, dataset.folders_of(split))
        for layout in dataset.layouts
        for pattern in layout.patterns.values()
    ]
    stems = {os.path.splitext(f"{target(archive).name}/{name}")[0] for name in members(archive)}
    return any(expression.fullmatch(stem) for stem in stems for expression in expressions)


def _search(dataset: Dataset, folder: Path, split: str) -> _Found | None:
    """Returns what the first matching layout finds, or None."""
    index = _index(folder)
    for layout in dataset.layouts:
        roots = _roots(dataset, layout, folder, index, split)
        if not roots:
            continue
        largest = max(map(len, roots.values()))
        best = sorted(root for root, groups in roots.items() if len(groups) == largest)
        if len(best) > 1:
            shown = ", ".join(str(folder / root) for root in best[:_NAMES_SHOWN])
            raise UserError(
                f"{folder}: holds {dataset.name}:{split} more than once ({shown}): name one of them"
            )
        return _Found(layout, roots[best[0]])
    return None


def _index(folder: Path) -> _Index:
    index = collections.defaultdict(list)
    for below, name in files_below(folder):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
            index[f"{below}/{stem}" if below else stem].append(folder / below / name)
    return index


def _roots(
    dataset: Dataset, layout: Layout, folder: Path, index: _Index, split: str
) -> dict[str, _Groups]:
    """Returns the folders in which all inputs of a layout were found, and what was found."""
    roots: dict[str, _Groups] = collections.defaultdict(dict)
    for role, pattern in layout.patterns.items():
        for root, name, files in _matches(dataset, layout, pattern, index, split, folder.name):
            roots[root].setdefault(name, {}).setdefault(role, []).extend(files)
    for groups in roots.values():
        for name, files in groups.items():
            groups[name] = _first_and_last(layout, files)
    inputs = set(dataset.inputs)
    return {
        root: groups
        for root, groups in roots.items()
        if inputs <= {role for files in groups.values() for role in files}
    }


def _matches(
    dataset: Dataset, layout: Layout, pattern: str, index: _Index, split: str, folder: str
) -> Iterator[tuple[str, str, Sequence[Path]]]:
    """Yields (root, name of the example, files) for the paths that match a pattern."""
    expression = compiled(pattern, dataset.folders_of(split))
    others = {f.lower() for s in dataset.splits if s != split for f in dataset.folders_of(s)}
    for path, files in index.items():
        match = expression.fullmatch(path)
        if match is None:
            continue
        shared = match.groupdict()
        root = shared.pop("root") or ""
        # Files in the folder of another split do not belong to this one.
        if not layout.separates_splits and others.intersection(
            [folder.lower(), *root.lower().split("/")]
        ):
            continue
        parts = [shared[part] for part in ("scene", "key", "number") if part in shared]
        name = "-".join(parts).replace("/", "-")
        if layout.split_of is None or layout.split_of(name) == split:
            yield root, name, files


def _first_and_last(layout: Layout, files: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    chosen = {}
    for role, paths in files.items():
        ordered = sorted(paths, key=lambda path: natural(path.name))
        if "{first}" in layout.patterns[role]:
            chosen[role] = ordered[:1]
        elif "{last}" in layout.patterns[role]:
            if len(ordered) > 1:  # a single frame is the first
                chosen[role] = ordered[-1:]
        else:
            chosen[role] = ordered
    return chosen


def _ambiguous(groups: _Groups) -> list[str]:
    twice = [paths for files in groups.values() for paths in files.values() if len(paths) > 1]
    if not twice:
        return []
    more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
    return [f"{twice[0][0]} and {twice[0][1].name} are the same image of one example{more}"]


def _unpaired(groups: _Groups, inputs: Sequence[str]) -> list[str]:
    missing = []
    for role in inputs:
        lacking = sorted((n for n, files in groups.items() if role not in files), key=natural)
        if lacking:
            shown = ", ".join(lacking[:_NAMES_SHOWN])
            rest = f" and {len(lacking) - _NAMES_SHOWN} more" if lacking[_NAMES_SHOWN:] else ""
            missing.append(f"no {role} image for {shown}{rest}")
    return missing


def _shown(dataset: Dataset, layout: Layout, split: str) -> str:
    """Returns a layout's patterns for error messages."""
    folder = dataset.folders_of(split)[0]
    patterns = [layout.patterns[role].replace("{split}", folder) for role in dataset.inputs]
    return " with ".join(re.sub(r"\{[a-z]+\}", "*", pattern) for pattern in patterns)
