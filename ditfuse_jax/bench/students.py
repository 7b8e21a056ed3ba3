"""A teacher and its students: fusion scores, obedience and seconds on held-out photographs.

    python -m ditfuse_jax.bench.students --teacher TEACHER --students RUN ... --source DIR

The teacher samples with its own steps and the guidance that was distilled, and with the students'
steps, with and without guidance; a student with its own settings.  The tasks are those of the
teacher's recipe, on crops of its size.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ditfuse_jax.checks import check_at_least
from ditfuse_jax.errors import EXIT_USER_ERROR, UserError
from ditfuse_jax.evaluate.bootstrap import mean_interval
from ditfuse_jax.evaluate.metrics import batch_metrics
from ditfuse_jax.evaluate.runner.during_training import held_out_examples
from ditfuse_jax.paths import model_path
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import TrainedModel, load_trained
from ditfuse_jax.tasks import Example, Task, make_task

SCORES = ("PSNR_clean", "SSIM_clean", "Qabf", "VIF")
LEVELS = (-2, -1, 1, 2)
_BATCH = 16
_TIMED = 5  # fused pairs, one at a time; the median counts


@dataclasses.dataclass(frozen=True)
class Row:
    """One model with its settings.

    Attributes:
      name: of the model.
      evaluations: of the network for an image: the solver's times the guidance branches.
      seconds: for one pair.
      scores: metric -> value of every example.
      luma: level of brightness -> mean luma of the fused images, in grey levels.
    """

    name: str
    evaluations: int
    seconds: float
    scores: dict[str, np.ndarray]
    luma: dict[int, float]


def examples_of(
    config: Mapping, source: str, crop: tuple[int, int], count: int
) -> dict[str, list[Example]]:
    """Returns `count` examples of every task of a recipe's mixture, on photographs of a source.

    Raises:
      UserError: the recipe has no tasks, or none of them is for such a source.
    """
    tasks: dict[str, Task] = {}
    for part in config["data"]["mixture"].values():
        tasks.setdefault(json.dumps(part["task"]), make_task(part["task"]))
    if not tasks:
        raise UserError("the teacher's recipe names no tasks, like that of a bundle: give its run")
    opened = open_source(source)
    examples = {
        name: held_out_examples(opened, task, crop, count, seed=0)
        for name, task in tasks.items()
        if task.num_images == opened.num_images
    }
    if not examples:
        raise UserError(
            f"no task of the teacher's recipe takes {opened.num_images} image(s) at a time, as "
            f"{source} has: give another --source"
        )
    return examples


def measure(name: str, trained: TrainedModel, changes: Mapping, examples: Sequence[Example]) -> Row:
    """Scores a model with changed sampling settings."""
    sampling = trained.sampling.override({**changes, "batch_size": _BATCH})
    fuser = StackFuser(trained, sampling)
    images = fuser.fuse([FusionInput(e.sources, e.prompt) for e in examples])
    scored = jax.jit(batch_metrics, static_argnames="names")
    found = scored(
        np.stack(images),
        np.stack([example.sources for example in examples]),
        np.stack([example.target for example in examples]),
        names=SCORES,
    )
    luma = {}
    for level in LEVELS:
        prompt = requests_prompt([Request("brightness", level)], 2)
        fused = fuser.fuse([FusionInput(e.sources, prompt) for e in examples[: _BATCH * 2]])
        luma[level] = float(np.mean([image @ np.array([0.299, 0.587, 0.114]) for image in fused]))
    alone = StackFuser(trained, sampling.override({"batch_size": 1}))
    first = [FusionInput(examples[0].sources, examples[0].prompt)]
    alone.fuse(first)
    seconds = []
    for _ in range(_TIMED):
        before = time.process_time()
        alone.fuse(first)
        seconds.append(time.process_time() - before)
    branches = len(sampling.guidance.branches)
    return Row(
        name,
        sampling.num_evaluations * branches,
        float(np.median(seconds)),
        {metric: np.asarray(values) for metric, values in found.items()},
        luma,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: scores with the half width of their 95 % interval, seconds, luma by level."""
    head = ["model", "evaluations", "CPU s / pair", *SCORES, *(f"luma {n:+d}" for n in LEVELS)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row.name, str(row.evaluations), f"{row.seconds:.3f}"]
        for metric in SCORES:
            values = row.scores[metric]
            low, high = mean_interval(values.tolist())
            digits = 2 if metric.startswith("PSNR") else 3
            cells.append(f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        cells += [f"{row.luma[level]:.1f}" for level in LEVELS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plan_rows(
    teacher: TrainedModel, students: Mapping[str, TrainedModel]
) -> list[tuple[str, TrainedModel, dict]]:
    """Returns names, models and changed settings: the teacher as it was distilled, then students.

    Raises:
      UserError: a student has no teacher.
    """
    for name, student in students.items():
        if not (student.config or {}).get("distill", {}).get("loss"):
            raise UserError(f"{name} is no student of `ditfuse distill`")
    # A run made from an adapter's file does not record what the teacher was asked: then its own.
    asked = next(
        (
            config["distill"]["sample"]
            for student in students.values()
            if (config := student.config) and config["distill"].get("sample")
        ),
        {},
    )
    guidance = ("guidance_scale", "image_guidance_scale")
    guided: dict[str, Any] = {name: asked[name] for name in guidance if name in asked}
    plain = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    rows: list[tuple[str, TrainedModel, dict]] = [("teacher", teacher, guided)]
    for steps in sorted({student.sampling.steps for student in students.values()}, reverse=True):
        rows.append(("teacher", teacher, guided | {"steps": steps}))
        rows.append(("teacher, no guidance", teacher, plain | {"steps": steps}))
    return rows + [(name, student, {}) for name, student in students.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares a teacher with its students.")
    parser.add_argument("--teacher", required=True, type=model_path)
    parser.add_argument("--students", nargs="+", required=True, type=model_path)
    parser.add_argument("--source", required=True, help="photographs that were not trained on")
    parser.add_argument("--count", type=int, default=24, help="examples of each task")
    args = parser.parse_args()
    try:
        compare(args)
    except UserError as error:
        parser.exit(EXIT_USER_ERROR, f"{error}\n")


def compare(args: argparse.Namespace) -> None:
    """Prints the rows as they are measured, then the table.

    Raises:
      UserError: a model, a student or the source cannot be used.
    """
    check_at_least("--count", args.count, 1)
    teacher = load_trained(args.teacher)
    if teacher.config is None:
        raise UserError(f"{args.teacher} was not trained here: its tasks are not known")
    crop = tuple(teacher.config["data"]["crop"])
    parts = examples_of(teacher.config, args.source, crop, args.count)
    examples = [example for part in parts.values() for example in part]
    students = {str(path): load_trained(path) for path in args.students}
    rows = []
    for name, trained, changes in plan_rows(teacher, students):
        rows.append(measure(name, trained, changes, examples))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{len(examples)} examples\n\n{table(rows)}")


if __name__ == "__main__":
    main()
