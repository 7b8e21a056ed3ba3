"""What is fused and scored: scenes with their sources and, where known, the clean image."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ditfuse_jax.degrade import degrade_views
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import list_images, paired_files, read_image
from ditfuse_jax.pipeline import open_source


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Images are uint8 (H, W, 3) of one size; `clean` is None where nobody knows it."""

    stem: str
    sources: tuple[np.ndarray, ...]
    clean: np.ndarray | None = None


def scene_stems(data: str, count: int | None = None) -> list[str]:
    """The names of the scenes that `read_scenes` yields.

    Raises:
      UserError: see `read_scenes`.
    """
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")
    source = open_source(data)
    if source.num_images > 1:
        return list(source.names[:count])
    rounds = [divmod(i, len(source)) for i in range(count or len(source))]
    return [source.names[k] if r == 0 else f"{source.names[k]}-{r + 1}" for r, k in rounds]


def read_scenes(data: str, count: int | None = None, seed: int = 0) -> Iterator[Scene]:
    """Reads the scenes of a data source, one at a time.

    Photographs (a folder of images, `samples:heldout`) become pairs of M3 views of the whole
    photograph at its own size, with the photograph as the clean image; a `count` beyond the number
    of photographs goes round again with other degradations.  A folder with `image1/`, `image2/`,
    ... gives its stacks as they are; a `clean/` or `target/` folder beside them is the reference.

    Args:
      data: see `pipeline.open_source`.
      count: at most this many scenes.
      seed: of the degradations.

    Raises:
      UserError: the source does not exist or is damaged, or `count` is below 1.
    """
    source = open_source(data)
    stems = scene_stems(data, count)
    clean = _clean_files(Path(data).expanduser(), stems) if source.num_images > 1 else {}
    for number, stem in enumerate(stems):
        images = source[number % len(source)]
        if source.num_images > 1:
            path = clean.get(stem)
            yield Scene(stem, images, read_image(path) if path else None)
        else:
            views = degrade_views(images[0], np.random.default_rng((seed, number)))
            yield Scene(stem, (views.view_a, views.view_b), images[0])


def _clean_files(folder: Path, stems: list[str]) -> dict[str, Path]:
    for name in ("clean", "target"):
        if (folder / name).is_dir():
            pairs = paired_files(folder / "image1", folder / name)
            return {first.stem: second for first, second in pairs}
    return {}


def read_method(folder: Path, stems: list[str]) -> dict[str, Path]:
    """The files of a method's fused images, or of references, by stem.

    Raises:
      UserError: the folder is missing or empty, or lacks an image.
    """
    found = {path.stem: path for path in list_images(folder)}
    for stem in stems:
        if stem not in found:
            raise UserError(f"{folder}: no image named {stem}, which the source folders have")
    return {stem: found[stem] for stem in stems}
