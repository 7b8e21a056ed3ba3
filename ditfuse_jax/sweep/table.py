"""The scores of a sweep in one table: mean and deviation over the seeds, the best marked."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from ditfuse_jax.evaluate.bootstrap import best_methods
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.reports.exports import csv_text
from ditfuse_jax.evaluate.reports.tables import (
    aligned_text,
    escape_markdown,
    format_row,
    heading,
    markdown_rows,
)
from ditfuse_jax.sweep.plan import Plan


@dataclasses.dataclass(frozen=True)
class Cell:
    """One metric of a setting: the values of its seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """NaN without values."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1); NaN of fewer than two finite values."""
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return math.nan
        squares = sum((value - self.mean) ** 2 for value in self.values)
        return math.sqrt(squares / (len(self.values) - 1))


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting: how many of its runs are done, and metric -> cell."""

    setting: str
    done: int
    runs: int
    cells: Mapping[str, Cell]

    @property
    def seeds(self) -> str:
        """How many seeds the means are of: `3`, or `2 of 3`."""
        return str(self.runs) if self.done == self.runs else f"{self.done} of {self.runs}"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows in the sweep's order, metrics in the order of importance."""

    metrics: tuple[str, ...]
    rows: tuple[Row, ...]

    def best(self, metric: str) -> set[str]:
        """The settings with the best mean; none where only one setting has a value."""
        means = {row.setting: row.cells[metric].mean for row in self.rows}
        if sum(not math.isnan(mean) for mean in means.values()) < 2:
            return set()
        return best_methods(metric, means)

    def texts(self, metric: str) -> list[tuple[str, str]]:
        """Mean and deviation of each row, with equal decimals; `` where there is no deviation."""
        means = [row.cells[metric].mean for row in self.rows]
        deviations = [row.cells[metric].deviation for row in self.rows]
        both = means + deviations
        told = [
            "" if math.isnan(deviation) else text
            for deviation, text in zip(deviations, format_row(deviations, both), strict=True)
        ]
        return list(zip(format_row(means, both), told, strict=True))


def make_table(plan: Plan) -> Table:
    """Gathers the scores that there are."""
    names = plan.sweep.metrics or METRICS
    found = [(run, run.scores()) for run in plan.runs]
    present = tuple(name for name in names if any(name in (scores or {}) for _, scores in found))
    rows = []
    for setting, _ in plan.sweep.items():
        scores = [some for run, some in found if run.setting == setting]
        done = [some for some in scores if some is not None]
        cells = {name: Cell(tuple(s[name] for s in done if name in s)) for name in present}
        rows.append(Row(setting, len(done), len(scores), cells))
    return Table(present, tuple(rows))


def to_csv(table: Table) -> str:
    """A line per setting: seeds, then mean and deviation of each metric, unrounded."""
    columns = [f"{name}_{what}" for name in table.metrics for what in ("mean", "deviation")]
    lines: list[Sequence[object]] = [["setting", "seeds", *columns]]
    for row in table.rows:
        numbers = [n for cell in row.cells.values() for n in (cell.mean, cell.deviation)]
        lines.append([row.setting, row.done, *("" if math.isnan(n) else n for n in numbers)])
    return csv_text(lines)


def runs_csv(plan: Plan) -> str:
    """A line per run: setting, seed, its words, its scores."""
    metrics = make_table(plan).metrics
    words = {name: " ".join(some) for name, some in plan.sweep.items()}
    lines: list[Sequence[object]] = [["setting", "seed", "words", *metrics]]
    for run in plan.runs:
        scores = run.scores() or {}
        values = [scores.get(name, "") for name in metrics]
        lines.append([run.setting, run.seed, words[run.setting], *values])
    return csv_text(lines)


def to_markdown(table: Table) -> str:
    """Means and deviations, the best mean of each metric in bold."""
    titles = [_title(name) for name in table.metrics]
    lines = _lines(table, lambda mean, rest, best: (f"**{mean}**" if best else mean) + rest)
    rows = [[escape_markdown(setting), *cells] for setting, *cells in lines]
    return markdown_rows([["setting", "seeds", *titles], *rows]) + "\n"


def to_text(table: Table) -> str:
    """For a terminal; the best mean of each metric has a `*`."""
    titles = [f"{_title(name)} " for name in table.metrics]
    lines = _lines(table, lambda mean, rest, best: mean + rest + ("*" if best else " "))
    return aligned_text([["setting", "seeds", *titles], *lines])


def _lines(table: Table, cell: Callable[[str, str, bool], str]) -> list[list[str]]:
    """A line per setting; `cell` joins a mean, its deviation and whether the mean is the best."""
    lines = [[row.setting, row.seeds] for row in table.rows]
    for name in table.metrics:
        best = table.best(name)
        for line, (mean, deviation) in zip(lines, table.texts(name), strict=True):
            line.append(cell(mean, f" ± {deviation}" if deviation else "", line[0] in best))
    return lines


def _title(metric: str) -> str:
    """`PSNR to clean (RGB), dB ↑`."""
    return f"{heading(METRICS[metric])} {METRICS[metric].arrow}"
