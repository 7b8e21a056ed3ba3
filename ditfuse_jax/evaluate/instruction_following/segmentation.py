"""Measures segmentation by text: intersection over union, from the colours of the output."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.degrade import degrade_views, overlay, overlay_mask
from ditfuse_jax.degrade.simulated_infrared import at_night, simulated_infrared
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.instruction_following.segmentation_results import (
    Confusion,
    SegmentationResults,
    confusion,
)
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.tables import format_number
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel, open_model
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.prompts import without_tags
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.tasks import STREET_CLASSES, check_labels

VIEWS = ("m3", "day", "night")  # what a photograph becomes
_SHEET_ROWS = 8  # of the contact sheet


def evaluate_segmentation(
    *,
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    count: int | None = None,
    classes: Sequence[str] = (),
    tags: bool = True,
    views: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    quiet: bool = False,
) -> SegmentationResults:
    """Segments classes in labelled scenes with a model and reads the masks from its outputs.

    The outputs are those of `ditfuse fuse`.  A photograph with labels becomes two views; of M3
    views, the photograph itself is the scene below the overlay.  For several images with labels,
    e.g. visible and infrared, and with `sample.class_map`, the scene is the model's plain fusion.
    Writes `segmentation.json`, and `segmentation.png`, which shows outputs and masks.

    Args:
      checkpoint, output, sampling, adapters, base, quantize: see `evaluate`.
      data: a source whose last image has labels of `STREET_CLASSES`, e.g. `labelled:FOLDER`.
      count: at most this many scenes.
      classes: to segment in every scene; by default all.
      tags: False leaves the tags out of the prompts, as a user does who types only a sentence.
      views: what a photograph becomes: `m3`, the default; `day` or `night`, the photograph at that
        time beside an infrared image that is simulated from the labels.
      quiet: no progress bar and no table.

    Returns:
      The pixel counts.

    Raises:
      UserError: bad checkpoint, data, classes, views or output.
    """
    if views not in (None, *VIEWS):
        raise UserError(f"views {views!r} are unknown: choose from {', '.join(VIEWS)}")
    numbers = class_numbers(classes)
    source = labelled_source(data)
    if source.num_images > 2 and views is not None:
        raise UserError(f"{data} holds pairs, which are segmented as they are: leave views out")
    settings = {"tags": tags} | ({} if source.num_images > 2 else {"views": views or "m3"})
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")
    files = ("segmentation.json", "segmentation.png")
    evaluated = open_model(
        checkpoint, output, sampling, adapters, base, quantize, files=files, tasks=[]
    )
    images: dict[str, dict[str, Confusion]] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    names = source.names[:count]
    progress = tqdm.tqdm(names, unit="scene", desc="segmenting", disable=quiet)
    with progress:
        for index, stem in enumerate(progress):
            scene = _read(source, index, evaluated.fuser.sampling.seed, views or "m3")
            images[stem] = {}
            for name, mask, fused in _segment(evaluated.fuser, scene, numbers, tags):
                counts = confusion(mask, scene.labels, numbers[name], len(STREET_CLASSES))
                images[stem][name] = counts
                if counts.present and len(pictures) < _SHEET_ROWS and name not in _shown(pictures):
                    title = f"{name}, {format_number(counts.iou, 2)}"
                    pictures[title] = _row(scene, fused, mask, scene.labels == numbers[name])
    results = SegmentationResults(images)
    _write(evaluated, data, settings, results, pictures, quiet)
    return results


def class_numbers(names: Sequence[str]) -> dict[str, int]:
    """Returns the label numbers of classes given by any of their names; of all without names.

    Raises:
      UserError: an unknown name, or a class that is named twice.
    """
    known = {name: i for i, synonyms in enumerate(STREET_CLASSES) for name in synonyms}
    standard = [synonyms[0] for synonyms in STREET_CLASSES]
    for name in names:
        if name not in known:
            raise UserError(f"class {name!r} is unknown; choose from {', '.join(standard)}")
    numbers = {name: known[name] for name in (names or standard)}
    if len(set(numbers.values())) < len(names):
        raise UserError(f"classes {', '.join(names)} name one class twice: drop one")
    return numbers


@dataclasses.dataclass(frozen=True, eq=False)
class _Scene:
    sources: tuple[np.ndarray, ...]
    labels: np.ndarray  # (H, W)
    clean: np.ndarray | None  # the image below an overlay, if there is one


def labelled_source(data: str) -> Source:
    """Opens a data source whose last image has labels.

    Raises:
      UserError: it has none.
    """
    source = open_source(data)
    labels = getattr(source, "labels", ())
    if tuple(labels) != (source.num_images - 1,) or source.num_images < 2:
        raise UserError(
            f"data source {data!r} has no labels: give labelled:FOLDER with images/ and labels/, "
            "or a data set whose last image is labels"
        )
    return source


def _read(source: Source, index: int, seed: int, kind: str) -> _Scene:
    *images, coded = source[index]
    labels = coded[..., 0]
    try:
        check_labels(labels, STREET_CLASSES)
    except UserError as error:
        raise UserError(f"{source.names[index]}: {error}") from error
    if len(images) > 1:
        return _Scene(tuple(images), labels, None)
    (image,), rng = images, np.random.default_rng((seed, index))
    if kind == "m3":
        views = degrade_views(image, rng)
        return _Scene((views.view_a, views.view_b), labels, image)
    infrared = simulated_infrared(image, labels, [names[0] for names in STREET_CLASSES], rng)
    return _Scene((at_night(image, rng) if kind == "night" else image, infrared), labels, None)


def _segment(
    fuser: StackFuser, scene: _Scene, numbers: Mapping[str, int], tags: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields class name, mask read from the output, and output for each class."""
    count = len(scene.sources)
    tasks = [*(f"segment:{name}" for name in numbers), "fuse"]
    asked = [make_instruction(None, count, fuser.sampling, task) for task in tasks]
    if tags:
        inputs = [one.fusion_input(scene.sources) for one in asked]
    else:
        inputs = [FusionInput(scene.sources, without_tags(one.prompt)) for one in asked]
    drawn = tags and fuser.sampling.class_map  # over the plain fusion
    if scene.clean is not None and not drawn:
        inputs.pop()
    outputs = fuser.fuse(inputs)
    clean = outputs[-1] if len(outputs) > len(numbers) else scene.clean
    for name, fused in zip(numbers, outputs, strict=False):
        yield name, overlay_mask(fused, clean), fused


def _shown(pictures: Mapping[str, Any]) -> set[str]:
    return {title.rpartition(", ")[0] for title in pictures}


def _row(scene: _Scene, fused: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """First view, output, and the scene with the mask that was read and with the true mask."""
    under = scene.sources[0] if scene.clean is None else scene.clean
    return [scene.sources[0], fused, overlay(under, mask), overlay(under, truth)]


def _write(
    evaluated: EvaluatedModel,
    data: str,
    settings: Mapping[str, Any],
    results: SegmentationResults,
    pictures: Mapping[str, list[np.ndarray]],
    quiet: bool,
) -> None:
    images = {
        stem: {
            name: {
                "iou": counts.iou,
                "present": counts.present,
                "false_positive_rate": counts.false_positive_rate,
            }
            for name, counts in row.items()
        }
        for stem, row in results.images.items()
    }
    content = {**settings} | results.summary() | {"images": images}
    if not quiet:  # before anything can fail
        print(results.table())
    path = evaluated.write("segmentation.json", data, content)
    if pictures:
        sheet = path.with_suffix(".png")
        titles = ("View A", "Output", "Predicted", "Truth")
        write_sheet(sheet, list(pictures.values()), titles, list(pictures))
    if not quiet:
        print(f"{path} ({len(results.images)} scenes)")
