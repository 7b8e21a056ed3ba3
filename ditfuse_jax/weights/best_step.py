"""Which step of a run is its best: `best.json` holds a scalar of every evaluated step.

The best step is chosen among those whose checkpoints exist, so a checkpoint that was deleted or
never finished cannot be chosen.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path

FILE = "best.json"


@dataclass(frozen=True)
class Criterion:
    """The scalar that ranks checkpoints.

    Attributes:
      name: of a scalar that an evaluation returns, e.g. `eval/PSNR_clean`.
      direction: which values are better; `zero` means those nearest to it.
    """

    name: str
    direction: Literal["higher", "lower", "zero"]

    def rank(self, value: float) -> float:
        """Returns a number that is larger for a better value, and -inf for NaN."""
        if math.isnan(value):
            return -math.inf
        return {"higher": value, "lower": -value, "zero": -abs(value)}[self.direction]


@dataclass(frozen=True)
class BestFile:
    """The contents of `best.json`.

    Attributes:
      criterion: of the values.
      values: step -> value.
      evaluation: the settings that the values depend on, which may be compared only if these are
        equal; None if they are not known.
    """

    criterion: Criterion
    values: dict[int, float]
    evaluation: Mapping[str, Any] | None = None


def find_best(run: Path, saved: Collection[int]) -> int:
    """Returns the best of a run's saved steps.

    Raises:
      UserError: none of them was evaluated.
    """
    path = as_path(run) / FILE
    step = None
    if path.exists():
        best = read_best(path)
        step = best_step(best.criterion, best.values, saved)
    if step is None:
        raise UserError(
            f"{run} has no best checkpoint: none of its steps was evaluated by train.keep_best; "
            "give the run folder without @best for the newest"
        )
    return step


def best_step(
    criterion: Criterion, values: Mapping[int, float], saved: Collection[int]
) -> int | None:
    """Returns the best of the saved steps, the earliest of equal ones; NaN is never the best."""
    known = [step for step in sorted(saved) if not math.isnan(values.get(step, math.nan))]
    return max(known, key=lambda step: criterion.rank(values[step]), default=None)


def read_best(path: Path) -> BestFile:
    """Reads `best.json`.

    Raises:
      UserError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        criterion = Criterion(content["metric"], content["direction"])
        values = {int(step): float(value) for step, value in content["values"].items()}
        return BestFile(criterion, values, content.get("evaluation"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}): remove it") from error
