"""Which step of a run is its best: `best.json` holds a scalar of every evaluated step.

The best step is chosen among those whose checkpoints exist, so a checkpoint that was deleted or
never finished cannot be chosen.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


def find_best(run: Path, saved: Collection[int]) -> int:
    """Returns the best of a run's saved steps.

    Raises:
      UserError: none of them was evaluated.
    """
    path = as_path(run) / FILE
    step = best_step(*read_best(path), saved) if path.exists() else None
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


def read_best(path: Path) -> tuple[Criterion, dict[int, float]]:
    """Reads `best.json`: the criterion, and its value at each evaluated step.

    Raises:
      UserError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        criterion = Criterion(content["metric"], content["direction"])
        values = {int(step): float(value) for step, value in content["values"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}): remove it") from error
    return criterion, values
