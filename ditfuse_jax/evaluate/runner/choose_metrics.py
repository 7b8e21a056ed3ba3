"""Which metrics an evaluation computes, and which of them a scene allows."""

from collections.abc import Sequence

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, METRIC_PRESETS, METRICS, TASK_METRICS
from ditfuse_jax.evaluate.runner.scenes import Scene

ALL = "all"  # among the names of metrics, in upper or lower case


def choose_metrics(names: Sequence[str] | None, task: str) -> tuple[str, ...]:
    """Returns the named metrics, or by default those of the task and those of a clean image.

    Args:
      names: keys of `METRICS` in upper or lower case; "all" stands for all of them.
      task: a key of `TASK_METRICS`.

    Raises:
      UserError: an unknown metric or task.
    """
    if names is None:
        return tuple(dict.fromkeys((*CLEAN_METRICS, *TASK_METRICS.find(task))))
    known = {name.lower(): name for name in METRICS}
    chosen = []
    for name in names:
        if name.lower() == ALL:
            chosen += METRICS
        elif name.lower() in known:
            chosen.append(known[name.lower()])
        else:
            raise UserError(f"metric {name!r} is unknown; choose from {', '.join(METRICS)}, or all")
    if not chosen:
        raise UserError("no metric is named: leave --metrics out, or name some")
    return tuple(dict.fromkeys(chosen))


def impossible_metrics(names: Sequence[str], preset: str, scene: Scene) -> dict[str, str]:
    """Returns the metrics that cannot be computed for a scene, with the reasons."""
    height, width = scene.sources[0].shape[:2]
    has_clean, num_sources = scene.clean is not None, len(scene.sources)
    reasons = {
        name: METRIC_PRESETS[preset]
        .metric(name)
        .why_impossible(has_clean, num_sources, (height, width))
        for name in names
    }
    return {name: reason for name, reason in reasons.items() if reason}
