"""Which checkpoint is the best, and which survive: one scalar of the evaluations decides.

`best.json` of a run folder holds the value of every evaluated step.  The best is the best of those
whose checkpoint exists, so a checkpoint that was lost, or never finished, is no answer.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.weights.best_step import FILE, Criterion, best_step, read_best


class Best:
    """The values of one run; all processes hold the same, the main one writes the file."""

    def __init__(self, run: Path, criterion: Criterion):
        """Reads what earlier starts of the run have left; values by another criterion are dropped.

        Raises:
          UserError: `best.json` cannot be read.
        """
        self._path = Path(run) / FILE
        self.criterion = criterion
        self.values: dict[int, float] = {}
        if self._path.exists():
            earlier, values = read_best(self._path)
            self.values = values if earlier == criterion else {}

    def forget_after(self, step: int) -> None:
        """Drops the values of later steps: the run goes on from `step`."""
        self.values = {s: value for s, value in self.values.items() if s <= step}

    def record(self, step: int, scalars: Mapping[str, float], saved: Collection[int]) -> bool:
        """Notes what an evaluation found.

        Args:
          step: evaluated.
          scalars: of the evaluations.
          saved: the steps whose checkpoints exist.

        Returns:
          Whether the step is better than all that are saved.

        Raises:
          UserError: the criterion's scalar is not among them.
        """
        name = self.criterion.name
        if name not in scalars:
            raise UserError(
                f"the best checkpoint is chosen by {name!r}, which no evaluation tells: choose "
                f"from {', '.join(scalars) or 'none'}"
            )
        others = [other for other in saved if other != step]
        before = best_step(self.criterion, self.values, others)
        self.values[step] = scalars[name]
        if is_main_process():
            facts = {"metric": name, "direction": self.criterion.direction}
            texts = {str(s): _to_json(value) for s, value in sorted(self.values.items())}
            write_text(self._path, json.dumps(facts | {"values": texts}, indent=2) + "\n")
        rank = self.criterion.rank
        better = before is None or rank(scalars[name]) > rank(self.values[before])
        return better and not math.isnan(scalars[name])

    def step(self, saved: Collection[int]) -> int | None:
        """The best of the steps whose checkpoints exist."""
        return best_step(self.criterion, self.values, saved)


@dataclass(frozen=True)
class KeepLatestAndBest:
    """Which checkpoints survive a save: the newest and the best; orbax's `PreservationPolicy`."""

    newest: int | None
    best: Best | None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each of orbax's checkpoints, which come oldest first."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = set(steps if self.newest is None else steps[-self.newest :])
        if self.best:
            kept.add(self.best.step(steps))
        return [step in kept for step in steps]


def _to_json(value: float) -> float | str:
    """JSON has no infinity and no NaN: they become words that `float` reads."""
    return value if math.isfinite(value) else str(value)
