"""Measures control by text: order of the levels, structural similarity, effect of the wording."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.degrade import CONTRAST, TONES, adjust_tone
from ditfuse_jax.evaluate.instruction_following.control_results import (
    PLAIN,
    SCALES,
    Agreement,
    ControlResults,
    SceneControl,
    mean_step,
)
from ditfuse_jax.evaluate.instruction_following.request_control import measure_requests
from ditfuse_jax.evaluate.instruction_following.tone_measures import (
    luminance,
    squared_error,
    ssim,
    structural_similarity,
)
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel, open_model
from ditfuse_jax.evaluate.runner.scenes import Scene, read_scenes, scene_stems
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import check_same_size
from ditfuse_jax.prompts import INSTRUCTION_POOLS, Instruction
from ditfuse_jax.sample import instructions
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.standard_prompts import STANDARD_TASKS, check_standard_task, standard_prompt
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.tasks.control import POOLS

# Held-out sentences of each group per scene; the next scene takes the next ones.
SENTENCES = 4

_SHEET_ROWS = 6  # of the contact sheet


def evaluate_control(
    *,
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    count: int | None = None,
    task: str = "fuse",
    tags: bool = True,
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    quiet: bool = False,
) -> ControlResults:
    """Fuses every scene at every level and with held-out sentences, all from the same noise.

    The groups of instructions are the plain fusion and the six levels.  Each scene takes an output
    per group for its standard sentence, and `SENTENCES` for held-out ones.  Writes `control.json`,
    and `control.png`, which shows the levels.  A model that was taught requests is also measured
    by `measure_requests`.

    Args:
      checkpoint, data, output, count, sampling, adapters, base, quantize: see `evaluate`.
      task: whose standard prompt is the plain one.
      tags: False leaves the tags out of the prompts, as a user does who types only a sentence.
      quiet: no progress bar and no table.

    Returns:
      The measurements.

    Raises:
      UserError: bad checkpoint, data or output.
    """
    check_standard_task(task)  # before anything is loaded
    stems = scene_stems(data, count)
    files = ("control.json", "control.png", "requests.json", "requests.png")
    evaluated = open_model(
        checkpoint, output, sampling, adapters, base, quantize, files=files, tasks=[task]
    )
    if evaluated.fuser.sampling.requests:
        measure_requests(evaluated, data, count, quiet=quiet)
    images: dict[str, SceneControl] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    scenes = read_scenes(data, count, evaluated.fuser.sampling.seed)
    progress = tqdm.tqdm(scenes, total=len(stems), unit="scene", desc="controlling", disable=quiet)
    with progress:
        for turn, scene in enumerate(progress):
            found, outputs = _measure(evaluated.fuser, scene, task, tags, turn)
            images[scene.stem] = found
            if len(pictures) < _SHEET_ROWS:
                shown = [outputs[level] for level in _shown_levels()]
                pictures[scene.stem] = [*scene.sources[:2], *shown]
    results = ControlResults(images)
    if not quiet:  # before anything can fail
        print(results.table())
    path = _write(evaluated, data, tags, results)
    titles = ["View A", "View B", *_shown_levels()]
    write_sheet(
        path.with_suffix(".png"), list(pictures.values()), titles, list(pictures), tile_width=200
    )
    if not quiet:
        print(f"{path} ({len(images)} scenes)")
    return results


def held_out_sentences(sentences: Sequence[Instruction], turn: int) -> list[Instruction]:
    """Returns the held-out sentences of the scene number `turn`: at most `SENTENCES`."""
    count = min(SENTENCES, len(sentences))
    return [sentences[(turn * count + k) % len(sentences)] for k in range(count)]


def _measure(
    fuser: StackFuser, scene: Scene, task: str, tags: bool, turn: int
) -> tuple[SceneControl, dict[str, np.ndarray]]:
    """Measures a scene; also returns its outputs by level."""
    check_same_size(scene.sources, [f"{scene.stem} {i + 1}" for i in range(len(scene.sources))])
    requests = list(_requests(task, len(scene.sources), tags, turn, fuser.sampling))
    fused = fuser.fuse([request.asked.fusion_input(scene.sources) for request in requests])
    standard: dict[str, np.ndarray] = {}
    reworded: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for request, image in zip(requests, fused, strict=True):
        if request.sentence is None:
            standard[request.level] = image
        else:
            reworded[request.level].append((request.sentence.form, image))
    plain = standard[PLAIN]
    targets = {PLAIN: plain} | {tag: adjust_tone(plain, tag) for tag in TONES}
    levels, target_levels = (
        {
            name: {level: measure(images[level]) for level in order}
            for name, (order, measure) in SCALES.items()
        }
        for images in (standard, targets)
    )
    found = SceneControl(
        levels=levels,
        target_levels=target_levels,
        structure={tag: structural_similarity(standard[tag], plain) for tag in TONES},
        target_structure={tag: structural_similarity(targets[tag], plain) for tag in TONES},
        agreement={
            _group(level, task): _agreement(standard[level], images, _scale_of(level), levels)
            for level, images in reworded.items()
        },
    )
    return found, standard


@dataclasses.dataclass(frozen=True)
class _Request:
    """What asks for a level: a held-out sentence, or the standard one (None)."""

    level: str
    sentence: Instruction | None
    asked: instructions.Instruction


def _requests(
    task: str, count: int, tags: bool, turn: int, sampling: SamplingConfig
) -> Iterator[_Request]:
    for level in (PLAIN, *TONES):
        pool = INSTRUCTION_POOLS.find(_group(level, task))
        held_out = [one for one in pool.instructions if one.split == "heldout"]
        for sentence in (None, *held_out_sentences(held_out, turn)):
            text = sentence.text if sentence else pool.sentences[0]
            if tags:
                prompt = standard_prompt(task if level == PLAIN else level.lower(), count, text)
                asked = instructions.Instruction(prompt)
            else:
                asked = instructions.make_instruction(text, count, sampling)
            yield _Request(level, sentence, asked)


def _group(level: str, task: str) -> str:
    """The instruction pool of a level."""
    return STANDARD_TASKS[task] if level == PLAIN else POOLS[level]


def _scale_of(level: str) -> str:
    """The scale on which sentences of a level are compared; brightness for the plain ones."""
    return "contrast" if level in CONTRAST else "brightness"


def _agreement(
    standard: np.ndarray,
    reworded: Sequence[tuple[str, np.ndarray]],
    scale: str,
    levels: Mapping[str, Mapping[str, float]],
) -> Agreement:
    grey = [luminance(image) for _, image in reworded]
    return Agreement(
        pairwise=[
            (squared_error(reworded[i][1], reworded[j][1]), ssim(grey[i], grey[j]))
            for i, j in itertools.combinations(range(len(reworded)), 2)
        ],
        to_training=[
            (form, squared_error(image, standard), ssim(own, luminance(standard)))
            for (form, image), own in zip(reworded, grey, strict=True)
        ],
        spread=float(np.std([SCALES[scale][1](image) for _, image in reworded])),
        step=mean_step(list(levels[scale].values())),
    )


def _shown_levels() -> list[str]:
    return [*SCALES["brightness"][0], "CONTRAST-", "CONTRAST+"]


def _write(evaluated: EvaluatedModel, data: str, tags: bool, results: ControlResults) -> Path:
    images = {
        stem: {"levels": row.levels, "structure": row.structure}
        for stem, row in results.images.items()
    }
    return evaluated.write(
        "control.json", data, {"tags": tags} | results.summary() | {"images": images}
    )
