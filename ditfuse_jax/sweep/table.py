"""The scores of a sweep in one table: mean and deviation over the seeds, the best marked."""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence

from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.sweep.plan import Plan

# Direction of a metric -> its sign in a table, and what is larger for better values.
ARROWS: dict[str, str] = {"higher": "↑", "lower": "↓", "zero": "→0"}
_MERIT: dict[str, Callable[[float], float]] = {
    "higher": lambda value: value,
    "lower": lambda value: -value,
    "zero": lambda value: -abs(value),
}


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
        merit = _MERIT[METRICS[metric].direction]
        merits = {row.setting: merit(row.cells[metric].mean) for row in self.rows}
        merits = {name: value for name, value in merits.items() if not math.isnan(value)}
        if len(merits) < 2:
            return set()
        return {name for name, value in merits.items() if value == max(merits.values())}

    def texts(self, metric: str) -> list[tuple[str, str]]:
        """Mean and deviation of each row, with equal decimals; `` where there is no deviation."""
        cells = [row.cells[metric] for row in self.rows]
        numbers = [number for cell in cells for number in (cell.mean, cell.deviation)]
        size = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
        decimals = 1 if size >= 1000 else 2 if size >= 10 else 4
        return [
            (_text(cell.mean, decimals), _text(cell.deviation, decimals, none="")) for cell in cells
        ]


def _text(number: float, decimals: int, none: str = "–") -> str:
    if math.isfinite(number):
        return f"{number:.{decimals}f}"
    return none if math.isnan(number) else "∞" if number > 0 else "-∞"


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
    return _csv(lines)


def runs_csv(plan: Plan) -> str:
    """A line per run: setting, seed, its words, its scores."""
    metrics = make_table(plan).metrics
    words = {name: " ".join(some) for name, some in plan.sweep.items()}
    lines: list[Sequence[object]] = [["setting", "seed", "words", *metrics]]
    for run in plan.runs:
        scores = run.scores() or {}
        values = [scores.get(name, "") for name in metrics]
        lines.append([run.setting, run.seed, words[run.setting], *values])
    return _csv(lines)


def to_markdown(table: Table) -> str:
    """Means and deviations, the best mean of each metric in bold."""
    header = ["setting", "seeds", *(heading(name) for name in table.metrics)]
    lines = [header, ["---"] * len(header)]
    columns = {name: table.texts(name) for name in table.metrics}
    for number, row in enumerate(table.rows):
        cells = []
        for name in table.metrics:
            mean, deviation = columns[name][number]
            bold = f"**{mean}**" if row.setting in table.best(name) else mean
            cells.append(bold + (f" ± {deviation}" if deviation else ""))
        lines.append([row.setting.replace("|", "\\|"), row.seeds, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_text(table: Table) -> str:
    """For a terminal; the best mean of each metric has a `*`."""
    lines = [["setting", "seeds", *(f"{heading(name)} " for name in table.metrics)]]
    columns = {name: table.texts(name) for name in table.metrics}
    for number, row in enumerate(table.rows):
        cells = []
        for name in table.metrics:
            mean, deviation = columns[name][number]
            star = "*" if row.setting in table.best(name) else " "
            cells.append(mean + (f" ± {deviation}" if deviation else "") + star)
        lines.append([row.setting, row.seeds, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def heading(metric: str) -> str:
    """`PSNR to clean (RGB), dB ↑`."""
    known = METRICS[metric]
    unit = f", {known.unit}" if known.unit else ""
    return f"{known.title}{unit} {ARROWS[known.direction]}"


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
