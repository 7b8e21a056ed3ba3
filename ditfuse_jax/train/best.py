"""Which checkpoint is the best, and which survive: one scalar of the evaluations decides.

`best.json` of a run folder holds the value of every evaluated step.  The best is the best of those
whose checkpoint exists, so a checkpoint that was lost, or never finished, is no answer.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.parallel.processes import is_main

FILE = "best.json"


@dataclass(frozen=True)
class Criterion:
    """What decides.

    Attributes:
      name: of a scalar that an evaluation returns, e.g. `eval/PSNR_clean`.
      direction: which values are better; `zero` means those nearest to it.
    """

    name: str
    direction: Literal["higher", "lower", "zero"]

    def rank(self, value: float) -> float:
        """A number that is larger for a better value; NaN comes after all others."""
        if math.isnan(value):
            return -math.inf
        return {"higher": value, "lower": -value, "zero": -abs(value)}[self.direction]


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
            earlier, values = _read(self._path)
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
        if is_main():
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


def find_best(run: Path, saved: Collection[int]) -> int:
    """The best of a run's saved steps.

    Raises:
      UserError: none of them was evaluated.
    """
    path = Path(run) / FILE
    step = best_step(*_read(path), saved) if path.exists() else None
    if step is None:
        raise UserError(
            f"{run} knows no best checkpoint: none of its steps was evaluated by train.keep_best; "
            "give the run folder without @best for the newest"
        )
    return step


def best_step(
    criterion: Criterion, values: Mapping[int, float], saved: Collection[int]
) -> int | None:
    """The best of the saved steps that have a value, the earliest of equals; NaN never wins."""
    known = [step for step in sorted(saved) if not math.isnan(values.get(step, math.nan))]
    return max(known, key=lambda step: criterion.rank(values[step]), default=None)


def _read(path: Path) -> tuple[Criterion, dict[int, float]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        criterion = Criterion(content["metric"], content["direction"])
        values = {int(step): float(value) for step, value in content["values"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}): remove it") from error
    return criterion, values


def _to_json(value: float) -> float | str:
    """JSON has no infinity and no NaN: they become words that `float` reads."""
    return value if math.isfinite(value) else str(value)
