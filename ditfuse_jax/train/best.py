"""The best checkpoint by one scalar of the evaluations, and which checkpoints are kept.

`best.json` in a run folder holds the value of every evaluated step.  Only steps whose checkpoint
exists can be the best.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditfuse_jax.files import write_text
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.paths import as_path
from ditfuse_jax.weights.best_step import FILE, Criterion, best_step, read_best


class BestTracker:
    """The values of one run, the same in all processes; the main process writes the file."""

    def __init__(self, run: Path, criterion: Criterion):
        """Reads the values of earlier starts of the run; those of another criterion are dropped.

        Raises:
          UserError: `best.json` cannot be read.
        """
        self._path = as_path(run) / FILE
        self.criterion = criterion
        self.values: dict[int, float] = {}
        if self._path.exists():
            earlier, values = read_best(self._path)
            self.values = values if earlier == criterion else {}

    def forget_after(self, step: int) -> None:
        """Drops the values of later steps, when the run continues from `step`."""
        self.values = {s: value for s, value in self.values.items() if s <= step}

    def record(self, step: int, scalars: Mapping[str, float], saved: Collection[int]) -> bool:
        """Records the value of a step.

        Args:
          step: number of updates.
          scalars: of the evaluations; the criterion's is among them.
          saved: the steps whose checkpoints exist.

        Returns:
          Whether the step is better than all others that are saved.
        """
        name = self.criterion.name
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
        """Returns the best of the steps whose checkpoints exist."""
        return best_step(self.criterion, self.values, saved)


@dataclass(frozen=True)
class KeepLatestAndBest:
    """Keeps the newest checkpoints and the best; a `PreservationPolicy` of orbax."""

    newest: int | None
    best: BestTracker | None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns whether to keep each checkpoint; orbax passes the oldest first."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = set(steps if self.newest is None else steps[-self.newest :])
        if self.best:
            kept.add(self.best.step(steps))
        return [step in kept for step in steps]


def _to_json(value: float) -> float | str:
    """Returns the value, infinity and NaN as strings that `float` reads: JSON has neither."""
    return value if math.isfinite(value) else str(value)
