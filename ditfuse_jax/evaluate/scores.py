"""A model's scores beside those of trivial methods, per image and on average.

Fidelity to the sources is easily gamed (copying one source scores well), so no table is complete
without the baselines.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS, score_candidates
from ditfuse_jax.images import check_same_size

Scores = dict[str, dict[str, float]]  # metric -> method -> value


def mean_of_sources(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the pixelwise mean of K uint8 images, rounded half up."""
    k = len(sources)
    total = np.sum([source.astype(np.uint32) for source in sources], axis=0)
    return ((2 * total + k) // (2 * k)).astype(np.uint8)


def maximum_of_sources(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the maximum of K uint8 images per pixel and channel."""
    return np.maximum.reduce(list(sources))


BASELINES: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "mean": mean_of_sources,
    "max": maximum_of_sources,
    "copy_a": lambda sources: sources[0],
    "copy_b": lambda sources: sources[1],
}


@dataclass(frozen=True)
class Example:
    """One scene to score: uint8 RGB images `(H, W, 3)` of one size.

    `outputs` maps a method's name to its image; the model's own is called "fused".
    """

    stem: str
    sources: Sequence[np.ndarray]
    outputs: Mapping[str, np.ndarray]
    clean: np.ndarray | None = None


@dataclass(frozen=True)
class Results:
    """Scores of several methods on several images."""

    images: dict[str, Scores]  # stem -> metric -> method -> value

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def methods(self) -> list[str]:
        """All methods, in the order in which they first appear."""
        rows = [row for scores in self.images.values() for row in scores.values()]
        return list(dict.fromkeys(method for row in rows for method in row))

    def summary(self) -> Scores:
        """Returns the mean over the images; those where a value is missing or NaN are left out.

        An infinite value (PSNR of two identical images) makes the mean infinite.
        """
        rows = list(self.images.values())
        present = [name for name in METRICS if any(name in row for row in rows)]
        return {
            name: {
                method: _mean([row.get(name, {}).get(method, math.nan) for row in rows])
                for method in self.methods
            }
            for name in present
        }


def score_methods(examples: Iterable[Example], names: Sequence[str] | None = None) -> Results:
    """Scores every example's outputs and the baselines of `BASELINES`.

    Args:
      examples: consumed one at a time, so they can be fused as they are drawn.
      names: metrics of `METRICS`; by default those of `SUITES["default"]` that each example allows.

    Raises:
      UserError: no examples, two of one name, fewer than two sources, or whatever
        `ditfuse_jax.evaluate.metrics.score` rejects; the message starts with the example's stem.
    """
    images: dict[str, Scores] = {}
    for example in examples:
        if example.stem in images:
            raise UserError(f"{example.stem}: two examples have this name; rename one of the files")
        try:
            images[example.stem] = _score_example(example, names)
        except UserError as error:
            raise UserError(f"{example.stem}: {error}") from error
    if not images:
        raise UserError("nothing to score: the set holds no images")
    return Results(images)


def best_methods(metric: str, values: Mapping[str, float]) -> set[str]:
    """Returns the methods with the best value of a metric, all of them on a tie; NaN never wins."""
    valid = {method: value for method, value in values.items() if not math.isnan(value)}
    merits = {method: METRICS[metric].merit(value) for method, value in valid.items()}
    best = max(merits.values(), default=math.nan)
    return {method for method, merit in merits.items() if merit == best}


def format_row(values: Iterable[float]) -> list[str]:
    """Returns the values of one metric as text, all with the decimals that suit the largest."""
    values = list(values)
    size = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = 1 if size >= 1000 else 2 if size >= 10 else 4
    texts = {math.inf: "∞", -math.inf: "-∞"}
    return [
        "–" if math.isnan(value) else texts.get(value, f"{value:.{decimals}f}") for value in values
    ]


def text_table(results: Results) -> str:
    """Returns the mean scores for a terminal: a line per metric, the best value marked `*`."""
    methods = results.methods
    plural = "" if results.count == 1 else "s"
    lines = [[f"mean of {results.count} image{plural}", "", *(f"{m} " for m in methods)]]
    for name, values in results.summary().items():
        metric, best = METRICS[name], best_methods(name, values)
        cells = [
            text + ("*" if method in best else " ")
            for method, text in zip(methods, format_row(values.values()), strict=True)
        ]
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        lines.append([title, metric.arrow, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _score_example(example: Example, names: Sequence[str] | None) -> Scores:
    if len(example.sources) < 2:
        raise UserError(f"fusion needs at least two source images, got {len(example.sources)}")
    check_same_size(example.sources, [f"source {i + 1}" for i in range(len(example.sources))])
    baselines = {name: fuse(example.sources) for name, fuse in BASELINES.items()}
    methods = {**example.outputs, **baselines}
    scores = score_candidates(list(methods.values()), example.sources, example.clean, names)
    return {
        name: dict(zip(methods, map(float, values), strict=True)) for name, values in scores.items()
    }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
