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

from ditfuse_jax.files import new_file, write_bytes, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.weights.best_step import FILE, Criterion, best_step, read_best


class BestTracker:
    """The values of one run, the same in all processes; the main process writes the file."""

    def __init__(
        self,
        run: Path,
        criterion: Criterion,
        evaluation: Mapping[str, Any] | None = None,
        earlier: Mapping[str, Any] | None = None,
    ):
        """Reads the values of earlier starts of the run, unless they cannot be compared.

        Args:
          run: the run folder.
          criterion: ranks the values.
          evaluation: the settings that the values depend on, see `evaluation_settings`; None if
            unknown.
          earlier: those of the earlier starts, if the file is too old to hold them.

        Raises:
          UserError: `best.json` cannot be read.
        """
        self._path = as_path(run) / FILE
        self.criterion = criterion
        self._evaluation = evaluation
        self.values: dict[int, float] = {}
        # Why the values of earlier starts do not count; empty if they do or there are none.
        self.differs = ""
        if self._path.exists():
            found = read_best(self._path)
            self.differs = _difference(
                found.criterion, criterion, found.evaluation or earlier, evaluation
            )
            self.values = {} if self.differs else found.values

    def set_aside(self, step: int) -> str:
        """Renames the file of earlier starts if its values do not count; in the main process.

        Args:
          step: that the run continues from, for the new name.

        Returns:
          A line for the user; empty if there is nothing to say.

        Raises:
          UserError: the folder cannot be written.
        """
        if not self.differs:
            return ""
        kept = new_file(self._path, f"until_{step}")
        write_bytes(kept, self._path.read_bytes())
        self._path.unlink()
        return f"{FILE} begins anew, {self.differs}; the earlier values are in {kept}"

    def forget_after(self, step: int) -> None:
        """Drops the values of later steps, when the run continues from `step`."""
        if self.values and step == 0:
            self.differs = self.differs or "as the run starts at step 0"
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
        rank = self.criterion.rank
        better = before is None or rank(scalars[name]) > rank(self.values[before])
        return better and not math.isnan(scalars[name])

    def write(self) -> None:
        """Writes the file; in the main process.

        Raises:
          UserError: it cannot be written.
        """
        content = {
            "metric": self.criterion.name,
            "direction": self.criterion.direction,
            "evaluation": self._evaluation,
            "values": {str(s): _to_json(value) for s, value in sorted(self.values.items())},
        }
        write_text(self._path, json.dumps(content, indent=2) + "\n")

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


def _difference(
    old: Criterion,
    new: Criterion,
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
) -> str:
    """Returns why values of two starts cannot be compared; empty if they can."""
    if old != new:
        return f"as {new.name} ({new.direction} is better) decides instead of {old.name}"
    if before is None or now is None or before == now:
        return ""
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return f"as the evaluation changed ({', '.join(keys)})"


def _to_json(value: float) -> float | str:
    """Returns the value, infinity and NaN as strings that `float` reads: JSON has neither."""
    return value if math.isfinite(value) else str(value)
