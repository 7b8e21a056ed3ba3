"""Segmentation by words, measured: intersection over union, read from the colour of the output."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.degrade import degrade_views, overlay, overlay_mask
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel, open_model
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.prompts import without_tags
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.tasks import STREET_CLASSES, check_labels

# Rows of the sheet.
_PICTURED = 8


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Pixels by what was read and what is true; void pixels are in none.

    Attributes:
      hits: covered, of the class.
      false: covered, of another class.
      missed: of the class, not covered.
      rest: neither.
    """

    hits: int = 0
    false: int = 0
    missed: int = 0
    rest: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Confusion(*(a + b for a, b in pairs))

    @property
    def present(self) -> bool:
        """Whether the class is there at all."""
        return self.hits + self.missed > 0

    @property
    def iou(self) -> float:
        """Hits / (hits + false + missed) in [0, 1]; NaN where the class is neither there nor read.

        Everingham et al., "The PASCAL Visual Object Classes challenge", IJCV 2010.
        """
        return _share(self.hits, self.hits + self.false + self.missed)

    @property
    def false_area(self) -> float:
        """Share, in [0, 1], of what is not of the class that is covered."""
        return _share(self.false, self.false + self.rest)

    @property
    def area(self) -> float:
        """Share of the class, in [0, 1]: the IoU of covering everything."""
        return _share(self.hits + self.missed, sum(dataclasses.astuple(self)))


def compare(read: np.ndarray, labels: np.ndarray, wanted: int, classes: int) -> Confusion:
    """Counts the pixels of one class.

    Args:
      read: bool (H, W), where the output shows the colour.
      labels: uint8 (H, W) class numbers; those from `classes` on are void.
      wanted: the class that was asked for.
      classes: how many there are.
    """
    valid = labels < classes
    truth = labels == wanted
    counts = (read & truth, read & ~truth & valid, ~read & truth, ~read & ~truth & valid)
    return Confusion(*(int(np.count_nonzero(where)) for where in counts))


@dataclasses.dataclass(frozen=True)
class SegmentationScores:
    """What was read, by image and class name."""

    images: dict[str, dict[str, Confusion]]

    def summary(self) -> dict[str, Any]:
        """Returns `classes` (name -> numbers) and their means, `miou` and `miou_of_everything`.

        `iou` is that of all pixels of the set together, images without the class included;
        `iou_per_image` the mean over the images that show it; `false_area` the mean over those
        that do not.  The means are over the classes that occur in the set.
        """
        names = list(next(iter(self.images.values())))
        classes = {name: self._class([row[name] for row in self.images.values()]) for name in names}
        there = [row for row in classes.values() if row["present"]]
        return {
            "miou": mean([row["iou"] for row in there]),
            "miou_of_everything": mean([row["area"] for row in there]),
            "classes": classes,
        }

    def _class(self, images: Sequence[Confusion]) -> dict[str, Any]:
        total = sum(images, Confusion())
        present = [one for one in images if one.present]
        absent = [one for one in images if not one.present]
        return {
            "iou": total.iou,
            "iou_per_image": mean([one.iou for one in present]),
            "area": total.area,
            "present": len(present),
            "absent": len(absent),
            "false_area": mean([one.false_area for one in absent]),
            "pixels": dataclasses.asdict(total),
        }

    def table(self) -> str:
        """Returns the summary for a terminal."""
        summary = self.summary()
        head = ("class", "IoU", "per image", "if all", "images", "absent", "painted there")
        lines: list[tuple[str, ...]] = [head]
        for name, row in summary["classes"].items():
            texts = (format_number(row[key]) for key in ("iou", "iou_per_image", "area"))
            counts = (str(row["present"]), str(row["absent"]), format_number(row["false_area"]))
            lines.append((name, *texts, *counts))
        means = (format_number(summary["miou"]), "", format_number(summary["miou_of_everything"]))
        return aligned_text([*lines, ("mean", *means, "", "", "")])


def evaluate_segmentation(
    *,
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    count: int | None = None,
    classes: Sequence[str] = (),
    tags: bool = True,
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quiet: bool = False,
) -> SegmentationScores:
    """Asks a model for classes of labelled scenes and reads the masks from its outputs.

    A photograph with labels is shown as two M3 views and is itself the scene under the overlay.
    Of several images with labels, e.g. visible and infrared, the scene is what the model makes of
    them when it is asked to fuse only.

    Args:
      checkpoint, output, sampling, adapters, base: see `evaluate`.
      data: a source whose last image is labels by `STREET_CLASSES`, e.g. `labelled:FOLDER`.
      count: at most this many scenes.
      classes: what is asked for in every scene; by default all.
      tags: False leaves them out of the prompts, as a user does who types a sentence.
      quiet: no progress, no table.

    Returns:
      What is written to `segmentation.json`; `segmentation.png` shows outputs and masks.

    Raises:
      UserError: what is wrong with checkpoint, data, classes or output.
    """
    wanted = class_numbers(classes)
    source = _labelled_source(data)
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")
    evaluated = open_model(checkpoint, output, sampling, adapters, base)
    images: dict[str, dict[str, Confusion]] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    names = source.names[:count]
    progress = tqdm.tqdm(names, unit="scene", desc="segmenting", disable=quiet)
    with progress:
        for index, stem in enumerate(progress):
            scene = _read(source, index, evaluated.fuser.sampling.seed)
            images[stem] = {}
            for name, read, fused in _segment(evaluated.fuser, scene, wanted, tags):
                found = compare(read, scene.labels, wanted[name], len(STREET_CLASSES))
                images[stem][name] = found
                if found.present and len(pictures) < _PICTURED and name not in _shown(pictures):
                    title = f"{name}, {format_number(found.iou, 2)}"
                    pictures[title] = _row(scene, fused, read, scene.labels == wanted[name])
    scores = SegmentationScores(images)
    _write(evaluated, data, tags, scores, pictures, quiet)
    return scores


def class_numbers(names: Sequence[str]) -> dict[str, int]:
    """The label numbers of classes named by any of their words; of all classes without names.

    Raises:
      UserError: nobody calls a class so, or one is named twice.
    """
    numbers = {word: i for i, words in enumerate(STREET_CLASSES) for word in words}
    standard = [words[0] for words in STREET_CLASSES]
    for name in names:
        if name not in numbers:
            raise UserError(f"unknown class {name!r}: choose from {', '.join(standard)}")
    wanted = {name: numbers[name] for name in (names or standard)}
    if len(set(wanted.values())) < len(names):
        raise UserError(f"classes {', '.join(names)} name one class twice: drop one")
    return wanted


@dataclasses.dataclass(frozen=True, eq=False)
class _Scene:
    sources: tuple[np.ndarray, ...]
    labels: np.ndarray  # (H, W)
    clean: np.ndarray | None  # what lies under an overlay, if anybody knows it


def _labelled_source(data: str) -> Source:
    source = open_source(data)
    labels = getattr(source, "labels", ())
    if tuple(labels) != (source.num_images - 1,) or source.num_images < 2:
        raise UserError(
            f"data source {data!r} has no labels: give labelled:FOLDER with images/ and labels/, "
            "or a data set whose last image is labels"
        )
    return source


def _read(source: Source, index: int, seed: int) -> _Scene:
    *images, coded = source[index]
    labels = coded[..., 0]
    try:
        check_labels(labels, STREET_CLASSES)
    except UserError as error:
        raise UserError(f"{source.names[index]}: {error}") from error
    if len(images) > 1:
        return _Scene(tuple(images), labels, None)
    views = degrade_views(images[0], np.random.default_rng((seed, index)))
    return _Scene((views.view_a, views.view_b), labels, images[0])


def _segment(
    fuser: Fuser, scene: _Scene, wanted: Mapping[str, int], tags: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Class name, mask as read, output, for every class that is asked for."""
    count = len(scene.sources)
    prompts = [standard_prompt(f"segment:{name}", count) for name in wanted]
    if scene.clean is None:
        prompts.append(standard_prompt("fuse", count))
    if not tags:
        prompts = [without_tags(prompt) for prompt in prompts]
    outputs = fuser.fuse([FusionInput(scene.sources, prompt) for prompt in prompts])
    clean = outputs[-1] if scene.clean is None else scene.clean
    for name, fused in zip(wanted, outputs, strict=False):
        yield name, overlay_mask(fused, clean), fused


def _shown(pictures: Mapping[str, Any]) -> set[str]:
    return {title.rpartition(", ")[0] for title in pictures}


def _row(scene: _Scene, fused: np.ndarray, read: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """First view, output, the mask as read and the true one over the scene."""
    under = scene.sources[0] if scene.clean is None else scene.clean
    return [scene.sources[0], fused, overlay(under, read), overlay(under, truth)]


def _write(
    evaluated: EvaluatedModel,
    data: str,
    tags: bool,
    scores: SegmentationScores,
    pictures: Mapping[str, list[np.ndarray]],
    quiet: bool,
) -> None:
    images = {
        stem: {
            name: {"iou": one.iou, "present": one.present, "false_area": one.false_area}
            for name, one in row.items()
        }
        for stem, row in scores.images.items()
    }
    found = {"tags": tags} | scores.summary() | {"images": images}
    path = evaluated.write("segmentation.json", data, found)
    if pictures:
        sheet = path.with_suffix(".png")
        titles = ("View A", "Output", "As read", "Truth")
        write_sheet(sheet, list(pictures.values()), titles, list(pictures))
    if not quiet:
        print(scores.table())
        print(f"{path} ({len(scores.images)} scenes)")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
