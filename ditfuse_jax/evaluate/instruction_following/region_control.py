"""Measures whether requests that are limited to a class change that class and nothing else."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.degrade.adjust import AXIS_OPERATIONS
from ditfuse_jax.degrade.simulated_infrared import simulated_infrared
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.instruction_following.axis_measures import luma
from ditfuse_jax.evaluate.instruction_following.segmentation import labelled_source
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean
from ditfuse_jax.evaluate.runner.evaluated_model import open_model
from ditfuse_jax.pipeline import Source
from ditfuse_jax.prompts.requests import CLASSES, Request
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.tasks import STREET_CLASSES, check_labels

# What is asked of every class: strong changes of the luma.
_LEVELS = (-2, 2)
_AXIS = "brightness"
_AREAS = (0.02, 0.8)  # fractions of the image between which a class is asked for
_SHEET_ROWS = 6


@dataclasses.dataclass(frozen=True)
class RegionChange:
    """What one request changed.

    Attributes:
      inside: mean change of the luma inside the class, in grey levels, in the asked direction.
      outside: mean size of the change elsewhere; void pixels are not counted.
      wanted: `inside` of the operation that makes the targets of training.
    """

    inside: float
    outside: float
    wanted: float


def evaluate_regions(
    *,
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    count: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Asks for a brighter and a darker class in labelled scenes, for every class in turn.

    A photograph is fused with an infrared image that is simulated from its labels; several images
    are fused as they are.  Writes `regions.json`, and `regions.png`, which shows outputs.

    Args:
      checkpoint, output, sampling, adapters, base, quantize: see `evaluate`.
      data: a source whose last image has labels of `STREET_CLASSES`, e.g. `labelled:FOLDER`.
      count: at most this many scenes.
      quiet: no progress bar and no table.

    Returns:
      `classes`: name -> `inside`, `outside`, `wanted` (means in grey levels), `contrast` (inside
      divided by outside), `direction` (the share of requests that went the right way) and
      `requests`; and `contrast` and `direction` over all.

    Raises:
      UserError: bad checkpoint, data or output, or a model that cannot limit requests.
    """
    source = labelled_source(data)
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")
    files = ("regions.json", "regions.png")
    evaluated = open_model(
        checkpoint, output, sampling, adapters, base, quantize, files=files, tasks=["fuse"]
    )
    changes: dict[str, dict[str, list[RegionChange]]] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    names = source.names[:count]
    for index, stem in enumerate(tqdm.tqdm(names, unit="scene", desc="limiting", disable=quiet)):
        changes[stem] = {}
        for name, images, found in _measure(evaluated.fuser, source, index):
            changes[stem][name] = found
            shown = {title.rpartition(", ")[0] for title in pictures}
            if name not in shown and len(pictures) < _SHEET_ROWS:
                pictures[f"{name}, {stem}"] = images
    results = summarise(changes)
    images = {
        stem: {name: [dataclasses.asdict(one) for one in row] for name, row in found.items()}
        for stem, found in changes.items()
    }
    if not quiet:  # before anything can fail
        print(table(results))
    path = evaluated.write("regions.json", data, results | {"images": images})
    if pictures:
        titles = ("View A", "View B", "Plain", *(f"{_AXIS} {level:+d}" for level in _LEVELS))
        write_sheet(path.with_suffix(".png"), list(pictures.values()), titles, list(pictures))
    if not quiet:
        print(f"{path} ({len(changes)} scenes)")
    return results


def _measure(
    fuser: StackFuser, source: Source, index: int
) -> Iterator[tuple[str, list[np.ndarray], list[RegionChange]]]:
    """Yields the name, the pictures and the changes of each class of a scene."""
    *sources, coded = source[index]
    labels = coded[..., 0]
    try:
        check_labels(labels, STREET_CLASSES)
    except UserError as error:
        raise UserError(f"{source.names[index]}: {error}") from error
    if len(sources) == 1:
        rng = np.random.default_rng((fuser.sampling.seed, index))
        standard = [synonyms[0] for synonyms in STREET_CLASSES]
        sources.append(simulated_infrared(sources[0], labels, standard, rng))
    shares = [float(np.mean(labels == number)) for number in range(len(CLASSES))]
    least, most = _AREAS
    asked = [name for name, share in zip(CLASSES, shares, strict=True) if least <= share <= most]
    requests = [Request(_AXIS, level, (name,)) for name in asked for level in _LEVELS]
    instructions = [make_instruction(None, len(sources), fuser.sampling)]
    instructions += [
        make_instruction(None, len(sources), fuser.sampling, adjustments=(request,))
        for request in requests
    ]
    plain, *outputs = fuser.fuse([one.fusion_input(sources) for one in instructions])
    for number, name in enumerate(asked):
        own = outputs[number * len(_LEVELS) : (number + 1) * len(_LEVELS)]
        inside, known = labels == CLASSES.index(name), labels < len(CLASSES)
        changes = [
            _change(plain, image, level, inside, known & ~inside)
            for level, image in zip(_LEVELS, own, strict=True)
        ]
        yield name, [*sources[:2], plain, *own], changes


def _change(
    plain: np.ndarray, changed: np.ndarray, level: int, inside: np.ndarray, outside: np.ndarray
) -> RegionChange:
    before = luma(plain)
    change = (luma(changed) - before) * np.sign(level)
    operation = AXIS_OPERATIONS.find(_AXIS)
    wanted = luma(operation(plain.astype(np.float32), level, None)) - before
    return RegionChange(
        inside=float(change[inside].mean()),
        outside=float(np.abs(change[outside]).mean()) if outside.any() else 0.0,
        wanted=float((wanted[inside] * np.sign(level)).mean()),
    )


def summarise(scenes: Mapping[str, Mapping[str, Sequence[RegionChange]]]) -> dict[str, Any]:
    """Returns the means over scenes; see `evaluate_regions`."""
    rows: dict[str, list[RegionChange]] = {}
    for found in scenes.values():
        for name, changes in found.items():
            rows.setdefault(name, []).extend(changes)
    everything = [change for changes in rows.values() for change in changes]
    return _means(everything) | {
        "classes": {name: _means(rows[name]) for name in CLASSES if name in rows}
    }


def _means(changes: Sequence[RegionChange]) -> dict[str, Any]:
    inside = mean([change.inside for change in changes])
    outside = mean([change.outside for change in changes])
    return {
        "inside": inside,
        "outside": outside,
        "wanted": mean([change.wanted for change in changes]),
        "contrast": inside / max(outside, 1e-3),
        "direction": mean([float(change.inside > 0) for change in changes]),
        "requests": len(changes),
    }


def table(results: Mapping[str, Any]) -> str:
    """Returns the summary for a terminal."""
    keys = ("inside", "outside", "wanted", "contrast", "direction")
    rows: list[Sequence[str]] = [("class", *keys, "requests")]
    for name, row in [*results["classes"].items(), ("all", results)]:
        rows.append((name, *(format_number(row[key], 3) for key in keys), str(row["requests"])))
    return aligned_text(rows)
