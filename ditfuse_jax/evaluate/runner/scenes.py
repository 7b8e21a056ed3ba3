"""Scenes: source images and, where there is one, the clean image."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax.degrade import degrade_views
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.align_scenes import SceneAligner
from ditfuse_jax.images import (
    RangeOption,
    SourceRanges,
    check_same_size,
    files_by_stem,
    paired_files,
)
from ditfuse_jax.paths import as_path, check_different_folders
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.pipeline.records import RecordSource
from ditfuse_jax.pipeline.sources import FileSource, is_folder
from ditfuse_jax.sample.fingerprints import pixels_digest


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Source images and an optional clean image, uint8 `(H, W, 3)` of one size."""

    stem: str
    sources: tuple[np.ndarray, ...]
    clean: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Digest of all pixels: equal for equal scenes, whatever files they came from."""
        return pixels_digest(*self.sources, *([] if self.clean is None else [self.clean]))


@dataclasses.dataclass(frozen=True)
class Scenes:
    """A set of scenes, each read when it is needed.

    Attributes:
      readers: stem -> function that reads the scene, or raises a UserError for a damaged file.
      excluded: stem -> why the scene cannot be used.
      folders: that the files of the scenes are in.
    """

    readers: Mapping[str, Callable[[], Scene]]
    excluded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folders: frozenset[Path] = frozenset()


@dataclasses.dataclass(frozen=True)
class Folders:
    """Two to four folders of source images with equal names, and optionally one of clean images."""

    sources: tuple[Path, ...]
    clean: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(map(as_path, self.sources)))
        if self.clean is not None:
            object.__setattr__(self, "clean", as_path(self.clean))

    def __str__(self) -> str:
        return " + ".join(map(str, self.sources))


def open_scenes(
    data: str | Folders,
    count: int | None = None,
    seed: int = 0,
    *,
    value_range: RangeOption = "auto",
    one_camera: bool = False,
    align: str | Path | None = None,
) -> Scenes:
    """Opens the scenes of a data source, or of folders.

    Photographs (a folder of images, `samples:heldout`) become pairs of M3 views of the whole
    photograph at its own size, with the photograph as the clean image; a `count` above the number
    of photographs reuses them with other degradations.  In a folder with `image1/`, `image2/`, ...
    each stack of images is a scene; a folder `clean/` or `target/` beside them has the clean
    images.  Of `Folders`, a stem that one of them lacks is excluded.
    The range of files with more than 8 bits is chosen by all of them, also with a `count`; a clean
    image has that of the source on whose pixels it lies.

    Args:
      data: see `pipeline.open_source`.
      count: at most this many scenes.
      seed: of the degradations.
      value_range, one_camera: of files with more than 8 bits; see `images.SourceRanges`.
      align: bring the sources onto the pixels of the first one of their scene; see `fuse`.

    Raises:
      UserError: the source does not exist, an image of a stack is missing, `count` is below 1,
        the source has labels or prompts, photographs are to be aligned, or a range or an alignment
        is given for a source that is not read from files.
    """
    aligner = None if align is None else SceneAligner(align)
    if isinstance(data, Folders):
        return _open_folders(data, count, value_range, one_camera, aligner)
    source = _open_sources(data)
    stems = _stems(source, count)
    ranges = _ranges(data, source, value_range, one_camera)
    read = _item_reader(source, ranges)
    files = source.stacks if isinstance(source, FileSource) else []
    if source.num_images == 1:
        if aligner:
            raise UserError(f"{data} holds photographs, whose views are aligned: leave align out")
        return Scenes(
            {
                stem: functools.partial(
                    _damaged_photograph, read, number % len(source), (seed, number), stem
                )
                for number, stem in enumerate(stems)
            },
            folders=_folders_of(files),
        )
    if aligner and not isinstance(source, FileSource):
        raise UserError(f"{data} is not read from image files: leave --align out")
    clean = _clean_files(as_path(data)) if is_folder(data) else {}
    return Scenes(
        {
            stem: functools.partial(_stack, read, number, stem, ranges, clean.get(stem), aligner)
            for number, stem in enumerate(stems)
        },
        folders=_folders_of([*files, list(clean.values())]),
    )


def scene_stems(data: str, count: int | None = None) -> list[str]:
    """Returns the names of the scenes that `open_scenes` finds in a data source.

    Items of equal names, and photographs that are reused, get a number: `x`, `x-2`, `x-3`.

    Raises:
      UserError: see `open_scenes`.
    """
    return _stems(_open_sources(data), count)


def read_scenes(data: str, count: int | None = None, seed: int = 0) -> Iterator[Scene]:
    """Reads the scenes of `open_scenes`, one at a time.

    Raises:
      UserError: see `open_scenes`; or an image is damaged.
    """
    for read in open_scenes(data, count, seed).readers.values():
        yield read()


def _open_folders(
    folders: Folders,
    count: int | None,
    value_range: RangeOption,
    one_camera: bool,
    aligner: SceneAligner | None,
) -> Scenes:
    _check_count(count)
    check_different_folders(folders.sources)
    places = [*folders.sources, *([folders.clean] if folders.clean else [])]
    listed = [files_by_stem(place) for place in places]
    complete, excluded = {}, {}
    for stem in sorted(set().union(*listed[: len(folders.sources)])):
        lacking = [place for place, files in zip(places, listed, strict=True) if stem not in files]
        if lacking:
            excluded[stem] = f"{lacking[0]}: no image named {stem}"
        else:
            complete[stem] = [files[stem] for files in listed]
    if not complete:
        raise UserError(f"no scene is in all folders: {next(iter(excluded.values()))}")
    sources = [paths[: len(folders.sources)] for paths in complete.values()]
    ranges = SourceRanges(sources, value_range, one_camera=one_camera)
    readers = {
        stem: functools.partial(_read_files, stem, paths, len(folders.sources), ranges, aligner)
        for stem, paths in list(complete.items())[:count]
    }
    return Scenes(readers, excluded, frozenset(places))


def _open_sources(data: str) -> Source:
    """Opens a source all of whose images are to be fused.

    Raises:
      UserError: it has labels, or prompts and targets.
    """
    source = open_source(data)
    if getattr(source, "labels", ()):
        raise UserError(
            f"{data} has labels, which are not fused: give --segmentation or --regions, or name "
            "its images without the labels"
        )
    if isinstance(source, RecordSource):
        raise UserError(
            f"{data} has prompts with targets, which no score uses: name the folders of its "
            "sources with --a and --b, or list them in a manifest:FILE"
        )
    return source


def _stems(source: Source, count: int | None) -> list[str]:
    _check_count(count)
    if source.num_images > 1:
        return _unique(source.names[:count])
    return _unique([source.names[i % len(source)] for i in range(count or len(source))])


def _unique(names: Sequence[str]) -> list[str]:
    """Returns names of which the repeated ones get a number that makes them differ from all."""
    taken, turn = set(names), dict.fromkeys(names, 1)
    unique = []
    for name in names:
        chosen = name
        if turn[name] > 1:
            while (chosen := f"{name}-{turn[name]}") in taken:
                turn[name] += 1
            taken.add(chosen)
        turn[name] += 1
        unique.append(chosen)
    return unique


def _ranges(
    data: str, source: Source, value_range: RangeOption, one_camera: bool
) -> SourceRanges | None:
    """Returns the ranges of a source's files; None if it is not read from files.

    Raises:
      UserError: a bad range, or one for a source that is not read from files.
    """
    if isinstance(source, FileSource):
        return SourceRanges(source.stacks, value_range, one_camera=one_camera)
    if value_range != "auto":
        raise UserError(f"{data} is not read from image files: leave --range out")
    return None


def _item_reader(
    source: Source, ranges: SourceRanges | None
) -> Callable[[int], Sequence[np.ndarray]]:
    """Returns a function that reads an item's images, of any sizes if they are files."""
    if not isinstance(source, FileSource) or ranges is None:
        return source.__getitem__
    return lambda number: [ranges.read(p, k) for k, p in enumerate(source.stacks[number])]


def _folders_of(files: Iterable[Sequence[Path]]) -> frozenset[Path]:
    return frozenset(path.parent for paths in files for path in paths)


def _check_count(count: int | None) -> None:
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")


def _damaged_photograph(
    read: Callable[[int], Sequence[np.ndarray]], number: int, seed: tuple[int, int], stem: str
) -> Scene:
    (photograph,) = read(number)
    views = degrade_views(photograph, np.random.default_rng(seed))
    return Scene(stem, (views.view_a, views.view_b), photograph)


def _stack(
    read: Callable[[int], Sequence[np.ndarray]],
    number: int,
    stem: str,
    ranges: SourceRanges | None,
    clean: Path | None,
    aligner: SceneAligner | None,
) -> Scene:
    images = read(number)
    reference = ranges.read_reference(clean, 0) if clean and ranges else None
    names = [f"{stem} image {i + 1}" for i in range(len(images))]
    return _scene(stem, images, names, reference, clean, aligner)


def _read_files(
    stem: str,
    paths: Sequence[Path],
    sources: int,
    ranges: SourceRanges,
    aligner: SceneAligner | None,
) -> Scene:
    images = [ranges.read(path, k) for k, path in enumerate(paths[:sources])]
    place = paths[sources] if len(paths) > sources else None
    clean = ranges.read_reference(place, 0) if place else None
    return _scene(stem, images, paths[:sources], clean, place, aligner)


def _scene(
    stem: str,
    images: Sequence[np.ndarray],
    names: Sequence[Path | str],
    clean: np.ndarray | None,
    place: Path | None,
    aligner: SceneAligner | None,
) -> Scene:
    """Checks the sizes, and aligns the sources if asked; `place` is that of the clean image."""
    if aligner:
        return Scene(stem, *aligner(stem, images, names, clean))
    everything = [*images, *([] if clean is None else [clean])]
    check_same_size(everything, [*names, *([place] if place else [])])
    return Scene(stem, tuple(images), clean)


def _clean_files(folder: Path) -> dict[str, Path]:
    for name in ("clean", "target"):
        if (folder / name).is_dir():
            pairs = paired_files(folder / "image1", folder / name)
            return {first.stem: second for first, second in pairs}
    return {}
