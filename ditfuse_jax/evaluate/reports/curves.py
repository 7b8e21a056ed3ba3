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
    found = {name: series(records, name) for name in chosen}
    return [_curve(name, points) for name, points in found.items() if len(points) > 1]


def series(records: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """Steps and values, `(n, 2)`, sorted by step."""
    points = {}
    for record in records:
        step, value = record.get("step"), record.get(name)
        if _is_finite(step) and _is_finite(value):
            points[step] = value
    return np.array(sorted(points.items()), np.float64).reshape(-1, 2)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _curve(title: str, points: np.ndarray) -> Curve:
    steps, values = thinned(points).T
    axis = value_axis(values.min(), values.max())
    smooth = running_average(values)
    x = across(steps, steps[0], steps[-1])
    return Curve(
        title=title + (" (log scale)" if axis.logarithmic else ""),
        line=polyline(x, axis.position(values)),
        smooth=polyline(x, axis.position(smooth)),
        last=f"{smooth[-1]:.4g}",
        steps=step_ticks(steps[0], steps[-1]),
        values=axis.ticks,
    )


def polyline(x: np.ndarray, y: np.ndarray) -> str:
    """The `points` of an SVG polyline or polygon."""
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def across(step: np.ndarray | float, first: float, last: float) -> np.ndarray:
    """Steps as SVG units from the panel's left; `first` must be below `last`."""
    return (np.asarray(step) - first) / (last - first) * WIDTH


def step_ticks(first: float, last: float) -> list[Tick]:
    """Round numbers of steps from first to last."""
    marks = [mark for mark in round_numbers(first, last) if first <= mark <= last]
    return [Tick(float(across(mark, first, last)), f"{mark:,.0f}") for mark in marks]


@dataclass(frozen=True)
class Axis:
    """The vertical axis of a panel: from the range of its values."""

    bottom: float
    top: float
    logarithmic: bool
    ticks: list[Tick]

    def position(self, value: np.ndarray | float) -> np.ndarray:
        """SVG units from the panel's top."""
        return _positions(value, self.bottom, self.top, self.logarithmic)


def value_axis(low: float, high: float) -> Axis:
    """Round numbers cover the range; it is logarithmic where the values span decades."""
    logarithmic = low > 0 and high > _LOG_SCALE_FROM * low
    marks = decades(low, high) if logarithmic else round_numbers(low, high)
    bottom, top = min(low, marks[0]), max(high, marks[-1])
    places = _positions(np.array(marks), bottom, top, logarithmic)
    ticks = [Tick(float(y), f"{mark:.4g}") for y, mark in zip(places, marks, strict=True)]
    return Axis(bottom, top, logarithmic, ticks)


def _positions(
    value: np.ndarray | float, bottom: float, top: float, logarithmic: bool
) -> np.ndarray:
    scale = np.log if logarithmic else np.asarray
    low, high = scale(bottom), scale(top)
    return (high - scale(value)) / ((high - low) or 1.0) * HEIGHT


def thinned(points: np.ndarray) -> np.ndarray:
    """Means of neighbouring rows `(n, columns)`, as many as a panel can show."""
    chunks = np.array_split(points, min(len(points), _MOST_POINTS))
    return np.array([chunk.mean(axis=0) for chunk in chunks])


def running_average(values: np.ndarray) -> np.ndarray:
    """Centred, so that it does not lag; of fewer values towards the ends."""
    half = int(_SMOOTHING * len(values) / 2)
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def round_numbers(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, four to eight of them, covering the range."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * m for m in (5, 2, 1) if span / (unit * m) >= 4)
    return [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten covering the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**i for i in range(first, last + 1)]
