"""Measures whether a model does what requests ask for: order, degree, selectivity, compounds.

Every scene is fused without a request, at every level of every axis, with two requests at once, and
with plain sentences, all from the same noise.  Without `sample.apply_requests`, only what the model
was taught is measured.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.evaluate.instruction_following.axis_measures import (
    AXIS_MEASURES,
    mean_luma,
    source_share,
)
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel
from ditfuse_jax.evaluate.runner.scenes import Scene, read_scenes, scene_stems
from ditfuse_jax.prompts import INSTRUCTION_POOLS
from ditfuse_jax.prompts.requests import LEVELS, TONE_AXES, Request
from ditfuse_jax.prompts.taught_requests import TaughtRequests
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.stack_fuser import StackFuser

# Plain sentences that are compared with the standard one, for each scene.
_PLAIN_SENTENCES = 4
# A level is stronger than the one before it if it changes the measure by this factor.
_DEGREE = 1.2
_SHEET_ROWS = 6

PLACES = ("first", "second")


@dataclasses.dataclass(frozen=True)
class SceneCurves:
    """Measurements of one scene.

    Attributes:
      curves: axis -> its measure at the levels -2, -1, 0, 1, 2.
      side_effects: axis -> other axis -> change of its measure by the level +1 of the first,
        divided by the mean change that its own levels -1 and +1 make.
      compounds: `AXIS+AXIS` -> whether both measures moved in the right directions.
      neutrality: largest difference in mean luma between plain sentences and the standard one.
    """

    curves: Mapping[str, Sequence[float]]
    side_effects: Mapping[str, Mapping[str, float]]
    compounds: Mapping[str, bool]
    neutrality: float


def measure_requests(
    evaluated: EvaluatedModel, data: str, count: int | None = None, *, quiet: bool = False
) -> dict[str, Any]:
    """Measures a model on scenes; writes `requests.json` and a sheet `requests.png`.

    Args:
      evaluated: a model whose `sample.requests` is not empty.
      data: see `evaluate`.
      count: number of scenes, by default all.
      quiet: no progress bar and no table.

    Returns:
      `axes`: axis -> curve, `ordered`, `direction`, `degree`, `side_effects`; `compounds`,
      `neutrality`: means over the scenes.

    Raises:
      UserError: bad data, or results that cannot be written.
    """
    fuser = evaluated.fuser
    sampling = fuser.sampling
    possible = TaughtRequests.parse(sampling.requests).with_applied(sampling.apply_requests)
    stems = scene_stems(data, count)
    scenes: dict[str, SceneCurves] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    titles: list[str] = []
    bar = tqdm.tqdm(
        read_scenes(data, count, fuser.sampling.seed),
        total=len(stems),
        unit="scene",
        desc="requesting",
        disable=quiet,
    )
    for turn, scene in enumerate(bar):
        found, outputs = _measure(fuser, scene, possible, turn)
        scenes[scene.stem] = found
        shown = {"plain": outputs[()]} | {
            str(requests[0]): image
            for requests, image in outputs.items()
            if len(requests) == 1 and abs(requests[0].level) == 2
        }
        titles = ["View A", "View B", *shown]
        if len(pictures) < _SHEET_ROWS:
            pictures[scene.stem] = [*scene.sources[:2], *shown.values()]
    results = summarise(list(scenes.values()))
    images = {stem: dataclasses.asdict(found) for stem, found in scenes.items()}
    if not quiet:  # before anything can fail
        print(table(results))
    path = evaluated.write("requests.json", data, results | {"images": images})
    sheet = path.with_suffix(".png")
    write_sheet(sheet, list(pictures.values()), titles, list(pictures), tile_width=160)
    if not quiet:
        print(f"{path} ({len(scenes)} scenes)")
    return results


def _measure(
    fuser: StackFuser, scene: Scene, possible: TaughtRequests, turn: int
) -> tuple[SceneCurves, dict[tuple[Request, ...], np.ndarray]]:
    axes = [axis for axis in TONE_AXES if axis in possible.levels]
    singles = [
        (Request(axis, level),)
        for axis in axes
        for level in LEVELS
        if abs(level) <= possible.levels[axis]
    ]
    if "emphasis" in possible.levels and len(scene.sources) == 2:
        singles += [(Request("emphasis", level, role=PLACES[0]),) for level in LEVELS]
    pairs = []
    if possible.compounds:
        signs = itertools.cycle(((1, 1), (1, -1), (-1, 1), (-1, -1)))
        pairs = [
            (Request(one, sign), Request(other, other_sign))
            for (one, other), (sign, other_sign) in zip(
                itertools.combinations(axes, 2), signs, strict=False
            )
        ]
    wanted: list[tuple[Request, ...]] = [(), *singles, *pairs]
    number = len(scene.sources)
    asked = [
        make_instruction(None, number, fuser.sampling, adjustments=requests) for requests in wanted
    ]
    sentences = INSTRUCTION_POOLS.find("fusion").sentences_of("heldout")
    start = turn * _PLAIN_SENTENCES
    texts = [sentences[(start + k) % len(sentences)] for k in range(_PLAIN_SENTENCES)]
    asked += [make_instruction(text, number, fuser.sampling) for text in texts]
    images = fuser.fuse([one.fusion_input(scene.sources) for one in asked])
    outputs = dict(zip(wanted, images, strict=False))
    reworded = images[len(wanted) :]
    return _curves(scene, axes, outputs, reworded), outputs


def _curves(
    scene: Scene,
    axes: Sequence[str],
    outputs: Mapping[tuple[Request, ...], np.ndarray],
    reworded: Sequence[np.ndarray],
) -> SceneCurves:
    plain = outputs[()]

    def levels_of(axis: str) -> dict[int, np.ndarray]:
        found = {r[0].level: i for r, i in outputs.items() if len(r) == 1 and r[0].axis == axis}
        return dict(sorted((found | {0: plain}).items()))

    curves = {
        axis: [AXIS_MEASURES[axis](image) for image in levels_of(axis).values()] for axis in axes
    }
    emphasised = levels_of("emphasis")
    if len(emphasised) > 1:
        curves["emphasis"] = [source_share(i, scene.sources, 0) for i in emphasised.values()]
    steps = {}
    for axis in axes:
        levels = levels_of(axis)
        low, high = (AXIS_MEASURES[axis](levels[level]) for level in (-1, 1))
        steps[axis] = abs(high - low) / 2
    side_effects = {
        axis: {
            other: abs(measure(levels_of(axis)[1]) - measure(plain)) / max(steps[other], 1e-6)
            for other, measure in AXIS_MEASURES.items()
            if other != axis and other in axes
        }
        for axis in axes
    }
    compounds = {}
    for requests, image in outputs.items():
        if len(requests) == 2:
            moved = [
                np.sign(AXIS_MEASURES[one.axis](image) - AXIS_MEASURES[one.axis](plain))
                == np.sign(one.level)
                for one in requests
            ]
            compounds["+".join(one.axis for one in requests)] = bool(all(moved))
    shifts = [abs(mean_luma(image) - mean_luma(plain)) for image in reworded]
    return SceneCurves(curves, side_effects, compounds, max(shifts, default=0.0))


def summarise(scenes: Sequence[SceneCurves]) -> dict[str, Any]:
    """Returns the means over scenes; see `measure_requests`."""
    axes = {}
    for axis in scenes[0].curves:
        curves = [scene.curves[axis] for scene in scenes]
        middle = len(curves[0]) // 2
        axes[axis] = {
            "curve": [mean(values) for values in zip(*curves, strict=True)],
            "ordered": mean([float(np.all(np.diff(curve) > 0)) for curve in curves]),
            "direction": mean([_direction(curve, middle) for curve in curves]),
            "degree": mean([_degree(curve, middle) for curve in curves]),
            "side_effects": {
                other: mean([scene.side_effects[axis][other] for scene in scenes])
                for other in scenes[0].side_effects.get(axis, {})
            },
        }
    compounds = [float(v) for scene in scenes for v in scene.compounds.values()]
    return {
        "axes": axes,
        "compounds": mean(compounds) if compounds else None,
        "neutrality": mean([scene.neutrality for scene in scenes]),
    }


def _direction(curve: Sequence[float], middle: int) -> float:
    """Returns the share of levels whose measure is on the right side of the plain one's."""
    signs = [
        np.sign(value - curve[middle]) == np.sign(place - middle)
        for place, value in enumerate(curve)
        if place != middle
    ]
    return float(np.mean(signs))


def _degree(curve: Sequence[float], middle: int) -> float:
    """Returns the share of sides on which level 2 changes clearly more than level 1."""
    if middle < 2:
        return float("nan")
    changes = np.abs(np.array(curve) - curve[middle])
    return float(np.mean([changes[0] > _DEGREE * changes[1], changes[4] > _DEGREE * changes[3]]))


def table(results: Mapping[str, Any]) -> str:
    """Returns the summary for a terminal."""
    levels = ("-2", "-1", "plain", "+1", "+2")
    rows: list[Sequence[str]] = [("axis", *levels, "ordered", "direction", "degree", "others")]
    for axis, found in results["axes"].items():
        curve = [format_number(value, 3) for value in found["curve"]]
        curve = curve if len(curve) == 5 else ["", *curve, ""]
        worst = max(found["side_effects"].values(), default=float("nan"))
        shares = (found[name] for name in ("ordered", "direction", "degree"))
        rows.append((axis, *curve, *(format_number(v, 2) for v in shares), format_number(worst, 2)))
    lines = [aligned_text(rows)]
    if results["compounds"] is not None:
        lines.append(f"two requests at once, both obeyed: {results['compounds']:.0%}")
    lines.append(f"plain sentences differ by {results['neutrality']:.2f} levels of mean luma")
    return "\n".join(lines)
