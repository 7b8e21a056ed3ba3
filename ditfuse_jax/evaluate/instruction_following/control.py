"""Control by words, measured: are the levels ordered, is the picture kept, do other words agree?"""

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
    ControlScores,
    SceneControl,
    mean_step,
)
from ditfuse_jax.evaluate.instruction_following.tone_measures import (
    luminance,
    similarity,
    squared_error,
    structure_kept,
)
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel, open_model
from ditfuse_jax.evaluate.runner.scenes import Scene, read_scenes, scene_stems
from ditfuse_jax.images import check_same_size
from ditfuse_jax.prompts import INSTRUCTION_POOLS, Instruction, as_prompt
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.standard_prompts import STANDARD_TASKS, check_standard_task, standard_prompt
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.tasks.control import POOLS

# Held-out sentences of each group that one scene is fused with; scene by scene all have their turn.
SENTENCES = 4

# Rows of the sheet.
_PICTURED = 6


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
    quiet: bool = False,
) -> ControlScores:
    """Fuses every scene at every level and with held-out sentences, from the same noise.

    A scene takes 7 outputs and `SENTENCES` for each of the 7 groups: plain and the six levels.

    Args:
      checkpoint, data, output, count, sampling, adapters, base: see `evaluate`.
      task: whose standard prompt is the plain one.
      tags: False asks with nothing but the sentence, as a user types it.
      quiet: no progress, no table.

    Returns:
      What is written to `control.json`; `control.png` shows the levels.

    Raises:
      UserError: what is wrong with checkpoint, data or output.
    """
    check_standard_task(task)  # before anything is loaded
    stems = scene_stems(data, count)
    evaluated = open_model(checkpoint, output, sampling, adapters, base)
    images: dict[str, SceneControl] = {}
    pictures: dict[str, list[np.ndarray]] = {}
    scenes = read_scenes(data, count, evaluated.fuser.sampling.seed)
    progress = tqdm.tqdm(scenes, total=len(stems), unit="scene", desc="controlling", disable=quiet)
    with progress:
        for turn, scene in enumerate(progress):
            found, outputs = _examine(evaluated.fuser, scene, task, tags, turn)
            images[scene.stem] = found
            if len(pictures) < _PICTURED:
                shown = [outputs[level] for level in _shown_levels()]
                pictures[scene.stem] = [*scene.sources[:2], *shown]
    scores = ControlScores(images)
    path = _write(evaluated, data, tags, scores)
    titles = ["View A", "View B", *_shown_levels()]
    write_sheet(
        path.with_suffix(".png"), list(pictures.values()), titles, list(pictures), tile_width=200
    )
    if not quiet:
        print(scores.table())
        print(f"{path} ({len(images)} scenes)")
    return scores


def held_out_turn(sentences: Sequence[Instruction], turn: int) -> list[Instruction]:
    """The `SENTENCES` held-out sentences whose turn it is; all, if there are no more."""
    count = min(SENTENCES, len(sentences))
    return [sentences[(turn * count + k) % len(sentences)] for k in range(count)]


def _examine(
    fuser: Fuser, scene: Scene, task: str, tags: bool, turn: int
) -> tuple[SceneControl, dict[str, np.ndarray]]:
    """What a scene shows, and its outputs by level."""
    check_same_size(scene.sources, [f"{scene.stem} {i + 1}" for i in range(len(scene.sources))])
    asked = list(_requests(task, len(scene.sources), tags, turn))
    fused = fuser.fuse([FusionInput(scene.sources, request.prompt) for request in asked])
    standard: dict[str, np.ndarray] = {}
    worded: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for request, image in zip(asked, fused, strict=True):
        if request.sentence is None:
            standard[request.level] = image
        else:
            worded[request.level].append((request.sentence.form, image))
    plain = standard[PLAIN]
    targets = {PLAIN: plain} | {tag: adjust_tone(plain, tag) for tag in TONES}
    levels, wanted = (
        {
            name: {level: measure(images[level]) for level in order}
            for name, (order, measure) in SCALES.items()
        }
        for images in (standard, targets)
    )
    found = SceneControl(
        levels=levels,
        asked=wanted,
        structure={tag: structure_kept(standard[tag], plain) for tag in TONES},
        structure_asked={tag: structure_kept(targets[tag], plain) for tag in TONES},
        agreement={
            _group(level, task): _agreement(standard[level], images, _scale_of(level), levels)
            for level, images in worded.items()
        },
    )
    return found, standard


@dataclasses.dataclass(frozen=True)
class _Request:
    """A level asked for by a held-out sentence, or by the standard one of training."""

    level: str
    sentence: Instruction | None
    prompt: str


def _requests(task: str, count: int, tags: bool, turn: int) -> Iterator[_Request]:
    for level in (PLAIN, *TONES):
        pool = INSTRUCTION_POOLS.find(_group(level, task))
        held_out = [one for one in pool.instructions if one.split == "heldout"]
        for sentence in (None, *held_out_turn(held_out, turn)):
            text = sentence.text if sentence else pool.sentences[0]
            if not tags:
                prompt = as_prompt(text, count)
            elif level == PLAIN:
                prompt = standard_prompt(task, count, text)
            else:
                prompt = standard_prompt(level.lower(), count, text)
            yield _Request(level, sentence, prompt)


def _group(level: str, task: str) -> str:
    """The instruction pool of a level."""
    return STANDARD_TASKS[task] if level == PLAIN else POOLS[level]


def _scale_of(level: str) -> str:
    """The scale by which sentences of a level are compared; plain ones by brightness."""
    return "contrast" if level in CONTRAST else "brightness"


def _agreement(
    standard: np.ndarray,
    worded: Sequence[tuple[str, np.ndarray]],
    scale: str,
    levels: Mapping[str, Mapping[str, float]],
) -> Agreement:
    grey = [luminance(image) for _, image in worded]
    return Agreement(
        between=[
            (squared_error(worded[i][1], worded[j][1]), similarity(grey[i], grey[j]))
            for i, j in itertools.combinations(range(len(worded)), 2)
        ],
        to_training=[
            (form, squared_error(image, standard), similarity(own, luminance(standard)))
            for (form, image), own in zip(worded, grey, strict=True)
        ],
        spread=float(np.std([SCALES[scale][1](image) for _, image in worded])),
        step=mean_step(list(levels[scale].values())),
    )


def _shown_levels() -> list[str]:
    return [*SCALES["brightness"][0], "CONTRAST-", "CONTRAST+"]


def _write(evaluated: EvaluatedModel, data: str, tags: bool, scores: ControlScores) -> Path:
    images = {
        stem: {"levels": row.levels, "structure": row.structure}
        for stem, row in scores.images.items()
    }
    return evaluated.write(
        "control.json", data, {"tags": tags} | scores.summary() | {"images": images}
    )
