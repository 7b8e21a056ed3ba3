"""Plots of a sweep: training curves with their range over the seeds, and scores of all settings."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ditfuse_jax.evaluate.reports.plots import (
    COLOURS,
    Plot,
    format_axes,
    is_logarithmic,
    series_colour,
)
from ditfuse_jax.evaluate.reports.training_curves import running_average, thinned, time_series
from ditfuse_jax.optional import import_optional
from ditfuse_jax.sweep.plan import SweepPlan
from ditfuse_jax.sweep.table import (
    ScoreTable,
    find_metric,
    in_table_order,
    scalar_title,
    title_prefix,
)

_ROW_HEIGHT = 34  # of a setting in a plot of scores, CSS pixels
_LONGEST_NAME = 24  # characters of a setting beside its scores

_SEED = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 7,
    "markerfacecolor": COLOURS["card"],
    "markeredgewidth": 1.5,
}
_MEAN = {"linestyle": "none", "marker": "|", "markersize": 17, "markeredgewidth": 3}
_BEST = {"color": COLOURS["ink"], "weight": "bold"}
_OTHER = {"color": COLOURS["soft"]}


def training_curves(plan: SweepPlan) -> list[Plot]:
    """Returns a plot of `loss` and of each scalar that was evaluated while training.

    Where settings share a training it is drawn once, under the name of the first.
    """
    records: dict[str, list[Sequence[Mapping[str, object]]]] = {}
    drawn = set()
    for trial in plan.trials:
        if trial.training and trial.training not in drawn:
            drawn.add(trial.training)
            records.setdefault(trial.setting, []).append(trial.training.records())
    numbers = setting_numbers(plan)
    plots = []
    scalars = in_table_order(
        name.removeprefix("eval/")
        for of_seeds in records.values()
        for record in itertools.chain(*of_seeds)
        for name in record
        if name.startswith("eval/") and not name.endswith("_of_mean")
    )
    for name in ("loss", *(f"eval/{scalar}" for scalar in scalars)):
        found = {
            numbers[setting]: merged
            for setting, of_seeds in records.items()
            if len(merged := _over_seeds([time_series(some, name) for some in of_seeds])) > 1
        }
        if found:
            plots.append(_curves(name, found))
    return plots


def score_plots(table: ScoreTable) -> list[Plot]:
    """Returns a plot of each metric with a row for every setting that has a value."""
    plots = []
    for metric in table.metrics:
        rows = sum(math.isfinite(row.cells[metric].mean) for row in table.rows)
        if rows:
            draw = functools.partial(_draw_scores, table, metric)
            plots.append(Plot(scalar_title(metric), draw, height=40 + _ROW_HEIGHT * rows))
    return plots


def setting_numbers(plan: SweepPlan) -> dict[str, int]:
    """Returns the number of each setting, which selects its colour in all plots."""
    return {name: number for number, (name, _) in enumerate(plan.sweep.items())}


def _over_seeds(of_seeds: Sequence[np.ndarray]) -> np.ndarray:
    """Merges series `(n, 2)` of several seeds into rows of step, mean, lowest, highest.

    A step is left out where one of the seeds that got that far has no value: the mean would jump.
    """
    tables = [dict(points.tolist()) for points in of_seeds if len(points)]
    steps = sorted(set[float]().union(*tables))
    rows = []
    for step in steps:
        values = [table[step] for table in tables if step in table]
        if len(values) == sum(max(table) >= step for table in tables):
            rows.append((step, sum(values) / len(values), min(values), max(values)))
    return np.array(rows, np.float64).reshape(-1, 4)


def _curves(name: str, found: Mapping[int, np.ndarray]) -> Plot:
    """Plots rows of step, mean, lowest, highest by the setting's number."""
    shown = {number: thinned(points) for number, points in found.items()}
    if name == "loss":  # noisy: each value is of one batch
        shown = {
            number: np.stack([points[:, 0], *map(running_average, points[:, 1:].T)], axis=1)
            for number, points in shown.items()
        }
    everything = np.concatenate(list(shown.values()))
    logarithmic = is_logarithmic(everything[:, 2].min(), everything[:, 3].max())
    scalar = name.removeprefix("eval/")
    metric = find_metric(scalar)
    title = title_prefix(scalar) + metric.title if metric else scalar
    scale = " (log scale)" if logarithmic else ""
    return Plot(title + scale, functools.partial(_draw_curves, shown, logarithmic))


def _draw_curves(shown: Mapping[int, np.ndarray], logarithmic: bool, axes: Any) -> None:
    for number, (steps, mean, low, high) in ((n, points.T) for n, points in shown.items()):
        colour, gid = series_colour(number), f"series-{number}"
        axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0, gid=gid)
        axes.plot(steps, mean, color=colour, gid=gid)
    format_axes(axes, logarithmic=logarithmic)


def _draw_scores(table: ScoreTable, metric: str, axes: Any) -> None:
    """Draws a row per setting: seeds as circles, their mean as a bar, one deviation as a band."""
    tickers = import_optional("matplotlib.ticker", "reports")
    rows = [
        (number, row, text)
        for number, (row, text) in enumerate(zip(table.rows, table.texts(metric), strict=True))
        if math.isfinite(row.cells[metric].mean)
    ]
    for place, (number, row, _) in enumerate(rows):
        cell, colour = row.cells[metric], series_colour(number)
        if math.isfinite(cell.deviation):
            ends = cell.mean - cell.deviation, cell.mean + cell.deviation
            axes.plot(ends, [place] * 2, color=colour, linewidth=9, alpha=0.28)
        axes.plot(cell.values, [place] * len(cell.values), **_SEED, markeredgecolor=colour)
        axes.plot([cell.mean], [place], **_MEAN, color=colour)
    axes.margins(x=0.04)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first setting at the top
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(tickers.MaxNLocator(5))
    axes.xaxis.set_major_formatter(tickers.StrMethodFormatter("{x:.4g}"))
    axes.set_yticks(range(len(rows)), [_shortened(row.setting) for _, row, _ in rows])
    right = axes.secondary_yaxis("right")
    right.spines["right"].set_visible(False)
    right.set_yticks(
        range(len(rows)),
        [mean + (f" ± {deviation}" if deviation else "") for _, _, (mean, deviation) in rows],
    )
    best = table.best(metric)
    labels = zip(axes.get_yticklabels(), right.get_yticklabels(), strict=True)
    for (_, row, _), pair in zip(rows, labels, strict=True):
        style = _BEST if row.setting in best else _OTHER
        for label in pair:
            label.set(**style)


def _shortened(setting: str) -> str:
    return setting if len(setting) <= _LONGEST_NAME else setting[: _LONGEST_NAME - 1] + "…"
