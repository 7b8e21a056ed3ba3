"""Sources: random access to tuples of images, from files, packed data and public data sets.

A recipe names a source as `KIND:ARGUMENT`, with a kind in `SOURCES`, or as the path of a folder.
"""

import functools
import importlib.util
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Protocol, SupportsIndex

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import (
    check_same_size,
    image_size,
    list_images,
    list_stacks,
    paired_files,
    read_image,
)
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.pipeline.access import load_image, names_in
from ditfuse_jax.pipeline.datasets import DATASETS, parse_selection, select_stacks
from ditfuse_jax.pipeline.manifests import manifest_stacks
from ditfuse_jax.pipeline.packed import PackedSource, is_packed
from ditfuse_jax.pipeline.records import open_records
from ditfuse_jax.pipeline.tfds_source import TfdsSource
from ditfuse_jax.registry import Registry

# The natural photographs in scikit-image's wheel.  Both images of the stereo pair are in one split.
SAMPLES = {
    "train": (
        "astronaut.png",
        "brick.png",
        "clock_motion.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
    ),
    "heldout": ("camera.png", "chelsea.png", "coffee.png"),
}


class Source(Protocol):
    """Random access to tuples of registered images, uint8 (H, W, 3) each, and their names."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def num_images(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, ...]: ...

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        """(height, width) of an item's images, without decoding them."""
        ...


class FileSource:
    """Image files read on access."""

    def __init__(
        self,
        stacks: Sequence[tuple[str, Sequence[Path]]],
        *,
        labels: Container[int] = (),
        keep: bool = False,
    ):
        """Creates a source.

        Args:
          stacks: (name, files) of each item, all with the same number of files.
          labels: the positions in a stack that hold class numbers, not pictures.
          keep: keep decoded images in memory.
        """
        self.names = [name for name, _ in stacks]
        self.stacks = [tuple(paths) for _, paths in stacks]
        self.num_images = len(self.stacks[0])
        self.labels = tuple(k for k in range(self.num_images) if k in labels)
        self.keep = keep
        self.remote = is_remote(self.stacks[0][0])

    def __len__(self) -> int:
        return len(self.stacks)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, ...]:
        paths = self.stacks[index]
        images = tuple(self._read(path, k in self.labels) for k, path in enumerate(paths))
        check_same_size(images, paths)
        return images

    def _read(self, path: Path, labels: bool) -> np.ndarray:
        return _read_and_keep(path) if self.keep and not labels else load_image(path, labels)

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        return image_size(self.stacks[index][0])


def open_source(name: str) -> Source:
    """Opens a source by its name in a recipe.

    Args:
      name: `KIND:ARGUMENT`, e.g. `samples:train`, `samples:heldout`, `labelled:FOLDER` (`images/`
        and `labels/` with equal names), `dataset:NAME@PLACE` or `tfds:NAME` (see
        `datasets.Selection`), `manifest:FILE`, `records:FILE` (samples with prompts, see
        `pipeline.records`); or a folder: of photographs, of subfolders `image1`, `image2`, ... with
        equally named, registered images, or of data packed by `ditfuse prepare`.
        Folders and files may be in an object store (`gs://`, `s3://`).

    Raises:
      UserError: it does not exist, is empty, or images of a stack are missing.
    """
    if is_folder(name):
        return _folder(name)
    kind, _, argument = name.partition(":")
    return SOURCES[kind](argument)


def is_folder(name: str) -> bool:
    """Returns whether the name of a source is the path of a folder, without a kind."""
    kind, colon, _ = name.partition(":")
    return not colon or kind not in SOURCES


def _samples(split: str) -> Source:
    if split not in SAMPLES:
        raise UserError(f"samples:{split} is unknown; choose from {', '.join(SAMPLES)}")
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError(
            "the sample photographs come with scikit-image: pip install scikit-image, or name a "
            "folder of your own photographs as the source"
        )
    folder = Path(spec.origin).parent / "data"
    return FileSource([(Path(f).stem, [folder / f]) for f in SAMPLES[split]], keep=True)


def _folder(name: str) -> Source:
    folder = as_path(name)
    if is_packed(folder):
        return PackedSource(folder)
    held = names_in(folder)
    if not held and (is_remote(folder) or not folder.is_dir()):
        known = ", ".join(f"{kind}:..." for kind in SOURCES)
        raise UserError(f"data source {name!r} is neither a folder nor one of {known}")
    if "image1" in held and (is_remote(folder) or (folder / "image1").is_dir()):
        return FileSource(list_stacks(folder))
    return FileSource([(path.stem, [path]) for path in list_images(folder)])


@functools.lru_cache(maxsize=64)
def _read_and_keep(path: Path) -> np.ndarray:
    image = read_image(path)
    image.flags.writeable = False  # shared between all readers
    return image


def _labelled(argument: str) -> Source:
    """Opens scenes and their labels: `images/` and `labels/` with files of equal names."""
    folder = as_path(argument)
    pairs = paired_files(folder / "images", folder / "labels")
    return FileSource([(paths[0].stem, paths) for paths in pairs], labels={1})


def _dataset(argument: str) -> Source:
    selection = parse_selection(argument, DATASETS)
    return FileSource(select_stacks(selection), labels=selection.labels)


def _manifest(argument: str) -> Source:
    return FileSource(manifest_stacks(argument))


# Kind -> function that opens the source which the argument describes.
SOURCES: Registry[Callable[[str], Source]] = Registry(
    "source",
    {
        "samples": _samples,
        "labelled": _labelled,
        "dataset": _dataset,
        "manifest": _manifest,
        "records": open_records,
        "tfds": TfdsSource,
    },
)
