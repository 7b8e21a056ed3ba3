"""Curves of a training run: its logged quantities over the steps, thinned and smoothed."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ditfuse_jax.evaluate.reports.plots import COLOURS, Plot, format_axes, is_logarithmic

_MOST_POINTS = 400
_SMOOTHING = 0.04  # width of the running average, as a fraction of the curve

Records = Sequence[Mapping[str, object]]


def training_curves(records: Records) -> list[Plot]:
    """Returns a plot of `loss` and of each quantity whose name starts with `eval/`.

    Args:
      records: lines of `metrics.jsonl`; see `time_series`.  A quantity with fewer than two points
        has no plot.
    """
    names = dict.fromkeys(name for record in records for name in record)
    chosen = [n for n in names if n == "loss"] + [n for n in names if n.startswith("eval/")]
    found = {name: time_series(records, name) for name in chosen}
    return [_plot(name, points) for name, points in found.items() if len(points) > 1]


def time_series(records: Records, name: str) -> np.ndarray:
    """Returns steps and values of one quantity, `(n, 2)`, sorted by step.

    Records without a numeric `step`, and values that are not finite numbers, are ignored.  Of a
    step that was logged twice, as after a resumed run, the later record counts.
    """
    points = {}
    for record in records:
        step, value = record.get("step"), record.get(name)
        if _is_finite(step) and _is_finite(value):
            points[step] = value
    return np.array(sorted(points.items()), np.float64).reshape(-1, 2)


def thinned(points: np.ndarray) -> np.ndarray:
    """Averages neighbouring rows of `(n, columns)` so that at most 400 rows remain."""
    chunks = np.array_split(points, min(len(points), _MOST_POINTS))
    return np.array([chunk.mean(axis=0) for chunk in chunks])


def running_average(values: np.ndarray) -> np.ndarray:
    """Returns the centred running average of `(n,)`, over fewer values towards the ends."""
    half = int(_SMOOTHING * len(values) / 2)
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _plot(name: str, points: np.ndarray) -> Plot:
    steps, values = thinned(points).T
    smooth = running_average(values)
    logarithmic = is_logarithmic(values.min(), values.max())
    return Plot(
        title=name + (" (log scale)" if logarithmic else ""),
        draw=functools.partial(_draw, steps, values, smooth, logarithmic),
        note=f"{smooth[-1]:.4g} at the end",
    )


def _draw(
    steps: np.ndarray, values: np.ndarray, smooth: np.ndarray, logarithmic: bool, axes: Any
) -> None:
    axes.plot(steps, values, color=COLOURS["accent"], linewidth=1, alpha=0.28)
    axes.plot(steps, smooth, color=COLOURS["accent"])
    format_axes(axes, logarithmic=logarithmic)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
