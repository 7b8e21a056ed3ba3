"""Pictures of a sweep as SVG geometry: curves with the seeds as a band, and bars of the scores."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.reports.curves import (
    Tick,
    across,
    polyline,
    round_numbers,
    running_average,
    series,
    step_ticks,
    thinned,
    value_axis,
)
from ditfuse_jax.sweep.plan import Plan
from ditfuse_jax.sweep.table import Cell, Table

COLOURS = 8  # in the page's style; then they begin again


@dataclasses.dataclass(frozen=True)
class Line:
    """A setting's mean over the seeds, as `points` of a polyline, and their range as a polygon."""

    label: str
    colour: int
    mean: str
    band: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """One quantity over the steps."""

    title: str
    lines: list[Line]
    steps: list[Tick]
    values: list[Tick]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A setting's score: places in SVG units from the left; `low` to `high` is one deviation."""

    label: str
    colour: int
    mean: float
    low: float
    high: float
    seeds: list[float]
    text: str
    best: bool


@dataclasses.dataclass(frozen=True)
class Bars:
    """One metric of all settings."""

    metric: str
    bars: list[Bar]
    ticks: list[Tick]


def curves(plan: Plan) -> list[Panel]:
    """Returns a panel of `loss` and of each metric that was evaluated while training.

    Where settings share a training it is drawn once, under the name of the first.
    """
    records: dict[str, list[Sequence[Mapping[str, object]]]] = {}
    drawn = set()
    for run in plan.runs:
        if run.training and run.training not in drawn:
            drawn.add(run.training)
            records.setdefault(run.setting, []).append(run.training.records())
    colours = colour_of(plan)
    panels = []
    for name in ("loss", *(f"eval/{metric}" for metric in METRICS)):
        found = {
            setting: merged
            for setting, of_seeds in records.items()
            if len(merged := _over_seeds([series(some, name) for some in of_seeds])) > 1
        }
        if found:
            panels.append(_panel(name, found, colours))
    return panels


def bars(table: Table) -> list[Bars]:
    """Returns a picture of each metric, its settings under each other on one scale."""
    return [
        _bars(metric, table)
        for metric in table.metrics
        if any(math.isfinite(row.cells[metric].mean) for row in table.rows)
    ]


def colour_of(plan: Plan) -> dict[str, int]:
    """Setting -> number of its colour, the same in all pictures."""
    return {name: number % COLOURS for number, (name, _) in enumerate(plan.sweep.items())}


def _over_seeds(of_seeds: Sequence[np.ndarray]) -> np.ndarray:
    """Series `(n, 2)` of several seeds -> rows of step, mean, lowest, highest.

    A step that not all of those have which came so far has no row: its mean would jump.
    """
    tables = [dict(points.tolist()) for points in of_seeds if len(points)]
    steps = sorted(set[float]().union(*tables))
    rows = []
    for step in steps:
        values = [table[step] for table in tables if step in table]
        if len(values) == sum(max(table) >= step for table in tables):
            rows.append((step, sum(values) / len(values), min(values), max(values)))
    return np.array(rows, np.float64).reshape(-1, 4)


def _panel(name: str, found: Mapping[str, np.ndarray], colours: Mapping[str, int]) -> Panel:
    shown = {setting: thinned(points) for setting, points in found.items()}
    if name == "loss":  # noisy: one batch each
        shown = {
            setting: np.stack([points[:, 0], *map(running_average, points[:, 1:].T)], axis=1)
            for setting, points in shown.items()
        }
    everything = np.concatenate(list(shown.values()))
    first, last = everything[:, 0].min(), everything[:, 0].max()
    axis = value_axis(everything[:, 2].min(), everything[:, 3].max())
    lines = []
    for setting, (steps, mean, low, high) in ((s, points.T) for s, points in shown.items()):
        x = across(steps, first, last)
        edge = polyline(
            np.concatenate([x, x[::-1]]), axis.position(np.concatenate([low, high[::-1]]))
        )
        lines.append(Line(setting, colours[setting], polyline(x, axis.position(mean)), edge))
    title = name.removeprefix("eval/")
    title = METRICS[title].title if title in METRICS else title
    scale = " (log scale)" if axis.logarithmic else ""
    return Panel(title + scale, lines, step_ticks(first, last), axis.ticks)


def _bars(metric: str, table: Table) -> Bars:
    cells = [row.cells[metric] for row in table.rows]
    reach = [value for cell in cells for value in _reach(cell) if math.isfinite(value)]
    low, high = min(reach), max(reach)
    if low == high:
        low, high = low - 0.1 * (abs(low) or 1.0), high + 0.1 * (abs(high) or 1.0)
    marks = round_numbers(low, high)
    left, right = marks[0], marks[-1]

    def x(value: float) -> float:
        return float(across(value, left, right))

    best = table.best(metric)
    made = []
    for number, (row, (mean, deviation)) in enumerate(
        zip(table.rows, table.texts(metric), strict=True)
    ):
        cell = row.cells[metric]
        if not math.isfinite(cell.mean):
            continue
        spread = cell.deviation if math.isfinite(cell.deviation) else 0.0
        made.append(
            Bar(
                label=row.setting,
                colour=number % COLOURS,
                mean=x(cell.mean),
                low=x(cell.mean - spread),
                high=x(cell.mean + spread),
                seeds=[x(value) for value in cell.values],
                text=mean + (f" ± {deviation}" if deviation else ""),
                best=row.setting in best,
            )
        )
    return Bars(metric, made, [Tick(x(mark), f"{mark:.4g}") for mark in marks])


def _reach(cell: Cell) -> list[float]:
    spread = cell.deviation if math.isfinite(cell.deviation) else 0.0
    return [*cell.values, cell.mean - spread, cell.mean + spread]
