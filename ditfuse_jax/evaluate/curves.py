"""Training curves as lines to draw: thinned, smoothed and scaled to a small panel."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 560, 200  # of the plotted area, in SVG units
_MOST_POINTS = 400
_SMOOTHING = 0.04  # width of the running average, as a fraction of the curve
_LOG_SCALE_FROM = 20.0  # largest value over smallest


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in SVG units from the left or from the top."""

    position: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps; lines are the `points` of an SVG polyline."""

    title: str
    line: str
    smooth: str
    last: str  # the smoothed value at the end
    steps: list[Tick]
    values: list[Tick]


def training_curves(records: Sequence[Mapping[str, object]]) -> list[Curve]:
    """Returns the curve of `loss` and of each quantity whose name starts with `eval/`.

    Args:
      records: lines of `metrics.jsonl`; those without a numeric `step`, and values that are not
        finite numbers, are left out.  Of a step that was logged twice, as after a resumed run,
        the later record counts.
    """
    names = dict.fromkeys(name for record in records for name in record)
    chosen = [n for n in names if n == "loss"] + [n for n in names if n.startswith("eval/")]
    series = {name: _series(records, name) for name in chosen}
    return [_curve(name, points) for name, points in series.items() if len(points) > 1]


def _series(records: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """Steps and values, `(n, 2)`, sorted by step."""
    points = {}
    for record in records:
        step, value = record.get("step"), record.get(name)
        if _is_finite(step) and _is_finite(value):
            points[step] = value
    return np.array(sorted(points.items()), np.float64).reshape(-1, 2)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _curve(title: str, series: np.ndarray) -> Curve:
    chunks = np.array_split(series, min(len(series), _MOST_POINTS))
    steps, values = np.array([chunk.mean(axis=0) for chunk in chunks]).T
    low, high = values.min(), values.max()
    logarithmic = low > 0 and high > _LOG_SCALE_FROM * low
    value_ticks = _decades(low, high) if logarithmic else _round_numbers(low, high)
    scale = np.log if logarithmic else np.asarray
    bottom, top = scale(min(low, value_ticks[0])), scale(max(high, value_ticks[-1]))

    def x(step: np.ndarray | float) -> np.ndarray:
        return (np.asarray(step) - steps[0]) / (steps[-1] - steps[0]) * WIDTH

    def y(value: np.ndarray | float) -> np.ndarray:
        return (top - scale(value)) / ((top - bottom) or 1.0) * HEIGHT

    def line(values: np.ndarray) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(steps), y(values), strict=True))

    smooth = _running_average(values)
    step_ticks = [t for t in _round_numbers(steps[0], steps[-1]) if steps[0] <= t <= steps[-1]]
    return Curve(
        title=title + (" (log scale)" if logarithmic else ""),
        line=line(values),
        smooth=line(smooth),
        last=f"{smooth[-1]:.4g}",
        steps=[Tick(float(x(t)), f"{t:,.0f}") for t in step_ticks],
        values=[Tick(float(y(t)), f"{t:.4g}") for t in value_ticks],
    )


def _running_average(values: np.ndarray) -> np.ndarray:
    """Centred, so that it does not lag; of fewer values towards the ends."""
    half = int(_SMOOTHING * len(values) / 2)
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _round_numbers(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, four to eight of them, covering the range."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * m for m in (5, 2, 1) if span / (unit * m) >= 4)
    return [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten covering the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**i for i in range(first, last + 1)]
