"""The start of a run in its folder: what earlier starts left there, and what the user is told."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ditfuse_jax.files import list_folder
from ditfuse_jax.train.best import BestTracker
from ditfuse_jax.train.changes import changed_settings, describe_changes
from ditfuse_jax.train.metrics_files import metrics_files, set_aside
from ditfuse_jax.train.recipe import Config, to_json
from ditfuse_jax.train.run_folder import RunFolder, describe_environment
from ditfuse_jax.weights.run_paths import CHECKPOINTS


@dataclasses.dataclass(frozen=True)
class Found:
    """What was in a run folder.

    Attributes:
      is_new: whether it was empty or not there.
      checkpoints: names of the folders of checkpoints, unfinished ones included.
      metrics: whether steps are recorded.
    """

    is_new: bool
    checkpoints: tuple[str, ...]
    metrics: bool

    @classmethod
    def look(cls, run: RunFolder) -> "Found":
        """Looks into a folder, before anything but the folder itself is made."""
        names = [path.name for path in list_folder(run.path / CHECKPOINTS)]
        is_new = not list_folder(run.path)
        return cls(is_new, tuple(names), bool(metrics_files(run.metrics)))

    def describe(self, steps: Collection[int]) -> str:
        """Returns why a run starts at step 0, or what else it found; empty if nothing.

        Args:
          steps: the complete checkpoints.
        """
        if self.is_new:
            return "a new folder"
        unfinished = [n for n in self.checkpoints if not (n.isdigit() and int(n) in steps)]
        if unfinished:
            one = f"the unfinished checkpoint {unfinished[-1]} cannot be used"
            return one if steps else f"it holds no complete checkpoint, and {one}"
        if steps:
            return ""
        return f"it holds {'metrics and ' if self.metrics else ''}no checkpoint"


def start_line(
    run: RunFolder, step: int, total: int, found: Found, steps: Collection[int], weights: str
) -> str:
    """Returns the line that says where a run starts, and why.

    Args:
      run: the run folder.
      step: that it starts from.
      total: number of steps.
      found: what was in the folder.
      steps: the complete checkpoints.
      weights: that it starts from at step 0, if any.
    """
    why = found.describe(steps)
    if step >= total:
        return f"nothing to train: {run.path} is at its last step, {step}"
    if step:
        return f"continuing {run.path} at step {step} of {total}{why and f' ({why})'}"
    origin = f", from the weights in {weights}" if weights else ""
    return f"starting {run.path} at step 0 of {total}: {why}{origin}"


def record_start(
    run: RunFolder,
    step: int,
    config: Config,
    earlier: Mapping[str, Any] | None,
    best: BestTracker | None,
) -> list[str]:
    """Records the start of a run, or its continuation, in its folder; in the main process.

    What the folder holds of later steps is moved aside, so that no step is recorded twice.

    Args:
      run: the run folder.
      step: that it starts from.
      config: its config.
      earlier: the config of the last start, if there was one.
      best: the values that choose the best checkpoint, if one is kept.

    Returns:
      Lines for the user: what changed, and what was moved.

    Raises:
      UserError: the folder cannot be written.
    """
    changes = changed_settings(earlier, config.to_dict()) if earlier is not None else {}
    lines = describe_changes(changes)
    moved = set_aside(run.metrics, step)
    if moved:
        lines.append(str(moved))
    if best and (line := best.set_aside(step)):
        lines.append(line)
    environment = describe_environment() | {"step": step, "changed": changes}
    run.begin(to_json(config), environment)
    run.step = step
    return lines
