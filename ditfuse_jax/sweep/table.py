"""The scores of a sweep in one table: mean and standard deviation over the seeds."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ditfuse_jax.evaluate.bootstrap import best_methods
from ditfuse_jax.evaluate.metrics import METRICS, Metric
from ditfuse_jax.evaluate.reports.exports import csv_text
from ditfuse_jax.evaluate.reports.tables import (
    aligned_text,
    escape_markdown,
    format_row,
    heading,
    markdown_rows,
)
from ditfuse_jax.sweep.plan import SweepPlan


@dataclasses.dataclass(frozen=True)
class SeedScores:
    """The values of one metric for the seeds of a setting."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean; NaN without values."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1); NaN for fewer than two finite values."""
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return math.nan
        squares = sum((value - self.mean) ** 2 for value in self.values)
        return math.sqrt(squares / (len(self.values) - 1))


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """The scores of a setting by metric, and how many of its trials are done."""

    setting: str
    done: int
    trials: int
    cells: Mapping[str, SeedScores]

    @property
    def seeds(self) -> str:
        """The number of seeds in the means: `3`, or `2 of 3`."""
        return str(self.trials) if self.done == self.trials else f"{self.done} of {self.trials}"


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """Rows in the order of the sweep's settings, metrics in order of importance."""

    metrics: tuple[str, ...]
    rows: tuple[ScoreRow, ...]

    def best(self, metric: str) -> set[str]:
        """Returns the settings with the best mean.

        There is none if only one setting has a value, or if the scalar's direction is unknown.
        """
        known = find_metric(metric)
        if known is None:
            return set()
        means = {row.setting: row.cells[metric].mean for row in self.rows}
        if sum(not math.isnan(mean) for mean in means.values()) < 2:
            return set()
        return best_methods(known.name, means)

    def texts(self, metric: str) -> list[tuple[str, str]]:
        """Returns mean and deviation of each row with equal decimals; "" without a deviation."""
        means = [row.cells[metric].mean for row in self.rows]
        deviations = [row.cells[metric].deviation for row in self.rows]
        both = means + deviations
        deviation_texts = [
            "" if math.isnan(deviation) else text
            for deviation, text in zip(deviations, format_row(deviations, both), strict=True)
        ]
        return list(zip(format_row(means, both), deviation_texts, strict=True))


def make_table(plan: SweepPlan) -> ScoreTable:
    """Collects the scores of the trials that are done."""
    found = [(trial, trial.scores()) for trial in plan.trials]
    names = in_table_order(name for _, scores in found for name in scores or {})
    if plan.sweep.metrics:
        names = [name for name in plan.sweep.metrics if name in names]
    present = tuple(names)
    rows = []
    for setting, _ in plan.sweep.items():
        scores = [some for trial, some in found if trial.setting == setting]
        done = [some for some in scores if some is not None]
        cells = {name: SeedScores(tuple(s[name] for s in done if name in s)) for name in present}
        rows.append(ScoreRow(setting, len(done), len(scores), cells))
    return ScoreTable(present, tuple(rows))


def in_table_order(names: Iterable[str]) -> list[str]:
    """Returns distinct names of scalars: those in `METRICS`, in its order, before all others."""
    distinct = dict.fromkeys(names)
    metrics = [name for name in METRICS if name in distinct]
    return metrics + [name for name in distinct if name not in metrics]


def find_metric(scalar: str) -> Metric | None:
    """Returns the metric of `PSNR_clean` or `NAME/PSNR_clean`; None for another scalar."""
    return METRICS.get(scalar.rpartition("/")[2])


def scalar_title(scalar: str) -> str:
    """`PSNR to clean (RGB), dB ↑`, after the evaluation's name if there is one."""
    metric = find_metric(scalar)
    return f"{title_prefix(scalar)}{heading(metric)} {metric.arrow}" if metric else scalar


def title_prefix(scalar: str) -> str:
    """Returns what a title begins with: `NAME: ` for a scalar of the evaluation NAME, else ""."""
    evaluation = scalar.rpartition("/")[0]
    return f"{evaluation}: " if evaluation else ""


def to_csv(table: ScoreTable) -> str:
    """Returns a line per setting: seeds, then mean and deviation of each metric, unrounded."""
    columns = [f"{name}_{what}" for name in table.metrics for what in ("mean", "deviation")]
    lines: list[Sequence[object]] = [["setting", "seeds", *columns]]
    for row in table.rows:
        numbers = [n for cell in row.cells.values() for n in (cell.mean, cell.deviation)]
        lines.append([row.setting, row.done, *("" if math.isnan(n) else n for n in numbers)])
    return csv_text(lines)


def trials_csv(plan: SweepPlan) -> str:
    """Returns a line per trial: setting, seed, overrides and scores."""
    metrics = make_table(plan).metrics
    overrides = {name: " ".join(some) for name, some in plan.sweep.items()}
    lines: list[Sequence[object]] = [["setting", "seed", "overrides", *metrics]]
    for trial in plan.trials:
        scores = trial.scores() or {}
        values = [scores.get(name, "") for name in metrics]
        lines.append([trial.setting, trial.seed, overrides[trial.setting], *values])
    return csv_text(lines)


def to_markdown(table: ScoreTable) -> str:
    """Returns means and deviations, with the best mean of each metric in bold."""
    titles = [scalar_title(name) for name in table.metrics]
    lines = _lines(table, lambda mean, rest, best: (f"**{mean}**" if best else mean) + rest)
    rows = [[escape_markdown(setting), *cells] for setting, *cells in lines]
    return markdown_rows([["setting", "seeds", *titles], *rows]) + "\n"


def to_text(table: ScoreTable) -> str:
    """Returns the table for a terminal; the best mean of each metric has a `*`."""
    titles = [f"{scalar_title(name)} " for name in table.metrics]
    lines = _lines(table, lambda mean, rest, best: mean + rest + ("*" if best else " "))
    return aligned_text([["setting", "seeds", *titles], *lines])


def _lines(table: ScoreTable, cell: Callable[[str, str, bool], str]) -> list[list[str]]:
    """Returns a line per setting; `cell` formats a mean, its deviation and whether it is best."""
    lines = [[row.setting, row.seeds] for row in table.rows]
    for name in table.metrics:
        best = table.best(name)
        for line, (mean, deviation) in zip(lines, table.texts(name), strict=True):
            line.append(cell(mean, f" ± {deviation}" if deviation else "", line[0] in best))
    return lines
