"""Evaluations that an earlier start of a run left undone at a step that it had saved.

A step is saved before it is evaluated: a process that is killed in between, or whose evaluation
fails, leaves a checkpoint without its values.  The next start evaluates it, so that the run has the
metrics and the best checkpoint of one that was never interrupted.
"""

from collections.abc import Collection, Sequence

import numpy as np
from jax.experimental import multihost_utils

from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.train.best import BestTracker
from ditfuse_jax.train.evaluations import Evaluation
from ditfuse_jax.train.metrics_files import last_records
from ditfuse_jax.train.run_folder import RunFolder


def unrecorded(
    evaluations: Sequence[Evaluation],
    step: int,
    last: bool,
    run: RunFolder,
    best: BestTracker | None,
    writers: Collection[str],
) -> list[Evaluation]:
    """Returns the evaluations that are due after a step and were not recorded, in all processes.

    Args:
      evaluations: of the run.
      step: that the run continues from; 0 is never evaluated.
      last: whether it is the run's last step.
      run: the run folder, whose metrics end with this step.
      best: the values that choose the best checkpoint, if one is kept.
      writers: `train.writers` of the recipe; without `jsonl` only what is in `best` counts as
        recorded.
    """
    due = [evaluation for evaluation in evaluations if step and evaluation.is_due(step, last)]
    if not due:
        return []
    names: set[str] = set()
    if "jsonl" not in writers:
        names = {best.criterion.name} if best and step in best.values else set()
    elif is_main_process():
        records, _ = last_records(run.metrics)
        names = {name for record in records if record["step"] == step for name in record}
    prefixes = [evaluation.prefix for evaluation in evaluations]
    missing = [not _is_among(names, evaluation, prefixes) for evaluation in due]
    # Only the main process reads the metrics, to which it may be writing already.
    missing = multihost_utils.broadcast_one_to_all(np.array(missing))
    return [evaluation for evaluation, absent in zip(due, missing, strict=True) if absent]


def _is_among(names: Collection[str], evaluation: Evaluation, prefixes: Sequence[str]) -> bool:
    """Returns whether a scalar of an evaluation is among the recorded names."""
    if evaluation.directions:
        return any(f"{evaluation.prefix}/{name}" in names for name in evaluation.directions)
    # `eval/streets/x` is of the evaluation `streets`, not of `eval`.
    others = tuple(f"{p}/" for p in prefixes if p.startswith(f"{evaluation.prefix}/"))
    own = [name for name in names if name.startswith(f"{evaluation.prefix}/")]
    return any(not name.startswith(others) for name in own)
