"""Which metrics a task's tables show, and which of them an image allows."""

from collections.abc import Mapping, Sequence

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRIC_GROUPS, METRIC_PRESETS, METRICS
from ditfuse_jax.evaluate.runner.scenes import Scene

# By task, what its literature reports; and where there is a clean image, how near that is.
TASK_METRICS: Mapping[str, Sequence[str]] = {
    "fuse": METRIC_GROUPS["default"],
    **{
        task: (*METRIC_GROUPS["restoration"], *METRIC_GROUPS[task])
        for task in ("ivif", "mff", "mef", "medical")
    },
}


def choose_metrics(words: Sequence[str] | None, task: str) -> tuple[str, ...]:
    """The metrics that were asked for, or those that the task reports.

    Args:
      words: names of `METRICS`; "all" stands for all of them.  Upper and lower case are alike.
      task: a key of `TASK_METRICS`.

    Raises:
      UserError: an unknown metric.
    """
    if words is None:
        return tuple(TASK_METRICS[task])
    known = {name.lower(): name for name in METRICS}
    chosen = []
    for word in words:
        if word.lower() == "all":
            chosen += METRICS
        elif word.lower() in known:
            chosen.append(known[word.lower()])
        else:
            raise UserError(f"unknown metric {word!r}: choose from {', '.join(METRICS)}, or all")
    if not chosen:
        raise UserError("no metric is named: leave --metrics out, or name some")
    return tuple(dict.fromkeys(chosen))


def unsupported_metrics(names: Sequence[str], preset: str, scene: Scene) -> dict[str, str]:
    """Of these metrics, those that cannot be computed on a scene, with the reason."""
    height, width = scene.sources[0].shape[:2]
    reasons = {}
    for name in names:
        metric = METRIC_PRESETS[preset].metric(name)
        if metric.needs == "clean" and scene.clean is None:
            reasons[name] = "needs a clean image"
        elif metric.needs == "pair" and len(scene.sources) != 2:
            reasons[name] = "is defined for two sources"
        elif min(height, width) < metric.smallest_side:
            reasons[name] = f"needs sides of at least {metric.smallest_side} pixels"
    return reasons
