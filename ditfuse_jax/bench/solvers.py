"""Solvers at equal numbers of evaluations: error to a 1,000-step solution, and fusion scores.

    python -m ditfuse_jax.bench.solvers --checkpoint small --count 2 \
        --pairs ivif VIS IR --pairs mff A B

Pairs are reduced to `--max-side` pixels, sampled as a whole (no tiles) and scored at that size.
The steps run one by one, so that one compiled program serves all solvers and numbers of steps.
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import compute_metrics_of_candidates
from ditfuse_jax.flow import SOLVERS, combine, time_grid
from ditfuse_jax.flow.guided_velocity import branch_velocities, encode
from ditfuse_jax.flow.solvers import count_evaluations
from ditfuse_jax.images import read_image
from ditfuse_jax.model import Condition, DiTFuse
from ditfuse_jax.paths import model_path
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.structure import merge
from ditfuse_jax.sample.trained import TrainedModel, load_trained

EVALUATIONS = (1, 2, 4, 8, 16, 32)
REFERENCE = ("ab2", 1000)
SCORES = ("Qabf", "VIF", "SSIM")


class SteppedFuser(StackFuser):
    """A fuser whose solver and steps may change without compiling again.

    Attributes:
      solver: a name of `SOLVERS`.
      steps: of the solver.
      sampled: the last sample (B, H, W, C), before it became an 8-bit image.
    """

    def __init__(self, trained: TrainedModel, max_side: int):
        sampling = dataclasses.replace(
            trained.sampling, tile=0, global_steps=0, batch_size=1, max_side=max_side
        )
        super().__init__(trained, sampling)
        self.solver, self.steps = REFERENCE
        self.sampled = np.zeros(())
        structure = trained.structure

        @jax.jit
        def encoded(parameters: Any, condition: Condition) -> Any:
            model: DiTFuse = merge(structure, parameters)
            return encode(model, condition, len(sampling.guidance.branches))

        @jax.jit
        def velocities(parameters: Any, *arguments: Any) -> jax.Array:
            return branch_velocities(merge(structure, parameters), *arguments)

        def sampler(
            parameters: Any, branches: Condition, noise: jax.Array, weights: jax.Array
        ) -> jax.Array:
            condition = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), branches)
            kept = encoded(parameters, condition)
            times = np.asarray(time_grid(self.steps, sampling.shift))

            def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
                return combine(velocities(parameters, kept, condition, x, t), weights)

            out = SOLVERS[self.solver](velocity, noise, times)
            self.sampled = np.asarray(out)
            return out

        self._sampler = sampler


@dataclasses.dataclass(frozen=True)
class Row:
    """One solver with one number of steps, means over the pairs of a task.

    Attributes:
      error: root mean square difference to the reference, in grey levels of 255.
      scores: metric -> value.
    """

    solver: str
    steps: int
    evaluations: int
    error: float
    scores: dict[str, float]


@functools.cache
def steps_for(solver: str, evaluations: int) -> int:
    """Returns the most steps that take no more evaluations; 0 if a single step takes more."""
    steps = [n for n in range(1, evaluations + 1) if _count(solver, n) <= evaluations]
    return steps[-1] if steps else 0


def compare(fuser: SteppedFuser, task: str, pairs: Sequence[Sequence[np.ndarray]]) -> list[Row]:
    """Samples every pair with every solver; the first row is the reference."""
    plan = [REFERENCE]
    for evaluations in EVALUATIONS:
        plan += [(name, n) for name in SOLVERS if (n := steps_for(name, evaluations))]
    plan = list(dict.fromkeys(plan))
    errors = np.zeros((len(pairs), len(plan)))
    scores = np.zeros((len(pairs), len(plan), len(SCORES)))
    prompt = standard_prompt(task, 2)
    for i, sources in enumerate(tqdm.tqdm(pairs, desc=task, unit="pair")):
        images, reference = [], np.zeros(())
        for k, (fuser.solver, fuser.steps) in enumerate(plan):
            images += fuser.fuse([FusionInput(sources, prompt)])
            reference = reference if k else fuser.sampled
            difference = (fuser.sampled - reference).astype(np.float64)
            errors[i, k] = np.sqrt(np.mean(difference**2)) * 127.5
        found = compute_metrics_of_candidates(images, sources, names=SCORES)
        scores[i] = np.stack([found[name] for name in SCORES], axis=-1)
    return [
        Row(
            *entry,
            _count(*entry),
            float(errors[:, k].mean()),
            dict(zip(SCORES, scores[:, k].mean(0).tolist(), strict=True)),
        )
        for k, entry in enumerate(plan)
    ]


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per number of evaluations and solver."""
    lines = [
        f"| evaluations | solver | steps | error | {' | '.join(SCORES)} |",
        f"|---|---|---|---|{'---|' * len(SCORES)}",
    ]
    for row in sorted(rows, key=lambda row: row.evaluations):
        values = " | ".join(f"{row.scores[name]:.3f}" for name in SCORES)
        lines.append(
            f"| {row.evaluations} | {row.solver} | {row.steps} | {row.error:.2f} | {values} |"
        )
    return "\n".join(lines)


def read_pairs(folders: Sequence[Path], count: int, max_side: int) -> list[list[np.ndarray]]:
    """Reads pairs of images with equal names, reduced to a long side of at most `max_side`.

    Raises:
      UserError: there are fewer pairs, or a file cannot be read.
    """
    names = [{path.stem: path for path in sorted(folder.iterdir())} for folder in folders]
    stems = sorted(names[0].keys() & names[1].keys())[:count]
    if len(stems) < count:
        raise UserError(f"{folders[0]} and {folders[1]} have {len(stems)} pairs, {count} are asked")
    return [[_reduced(read_image(side[stem]), max_side) for side in names] for stem in stems]


def _reduced(image: np.ndarray, max_side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = round(width * scale), round(height * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@functools.cache
def _count(solver: str, steps: int) -> int:
    return count_evaluations(SOLVERS[solver], steps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares solvers at equal evaluations.")
    parser.add_argument("--checkpoint", default="small", type=model_path)
    parser.add_argument(
        "--pairs",
        nargs=3,
        action="append",
        required=True,
        metavar=("TASK", "A", "B"),
        help="a task of `fuse` and two folders of sources; may be repeated",
    )
    parser.add_argument("--count", type=int, default=2, help="pairs of each task")
    parser.add_argument("--max-side", type=int, default=160, help="pixels")
    args = parser.parse_args()
    fuser = SteppedFuser(load_trained(args.checkpoint), args.max_side)
    for task, *folders in args.pairs:
        pairs = read_pairs([Path(folder) for folder in folders], args.count, args.max_side)
        print(f"\n{task}, {len(pairs)} pairs\n\n{table(compare(fuser, task, pairs))}", flush=True)


if __name__ == "__main__":
    main()
