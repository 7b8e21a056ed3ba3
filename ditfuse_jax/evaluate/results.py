"""The scores of several methods on several images: means, intervals, ranks."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ditfuse_jax.evaluate.baselines import CEILINGS, is_baseline, method_title
from ditfuse_jax.evaluate.bootstrap import mean_interval, ranks
from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, METRICS, Metric
from ditfuse_jax.optional import import_optional

Scores = dict[str, dict[str, float]]  # metric -> method -> value


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A method's result for one metric over all images.

    Attributes:
      mean: over the images.
      low, high: the 95 % interval of the mean; NaN for a single image.
      rank: among the ranked methods, 1 is the best; NaN for a method that is not ranked.
      count: of the images in the mean, the same for all methods that have one.
    """

    mean: float
    low: float
    high: float
    rank: float
    count: int = 0


@dataclasses.dataclass(frozen=True)
class Results:
    """Scores of several methods on several images.

    Attributes:
      images: image stem -> metric -> method -> value.
      excluded: image stem -> why the image was not scored.
      preset: a key of `METRIC_PRESETS`.
      impossible: metric -> image stem -> why the metric cannot be computed for the image.
    """

    images: dict[str, Scores]
    excluded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preset: str = "canonical"
    impossible: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of scored images."""
        return len(self.images)

    @functools.cached_property
    def methods(self) -> list[str]:
        """All methods, in the order in which they first appear."""
        rows = [row for scores in self.images.values() for row in scores.values()]
        return list(dict.fromkeys(method for row in rows for method in row))

    @property
    def primary(self) -> str:
        """The method that is evaluated: the first."""
        return self.methods[0]

    @property
    def ranked(self) -> list[str]:
        """The methods that are ranked: all but baselines, or with a single method baselines too."""
        methods = [method for method in self.methods if not is_baseline(method)]
        return methods if len(methods) > 1 else [m for m in self.methods if m not in CEILINGS]

    @functools.cached_property
    def metrics(self) -> list[str]:
        """All metrics that some image has, in the order of `METRICS`."""
        return [name for name in METRICS if any(name in row for row in self.images.values())]

    def metric(self, name: str) -> Metric:
        """Returns the metric as the preset computes it."""
        return METRIC_PRESETS[self.preset].metric(name)

    def values(self, metric: str, method: str) -> list[float]:
        """Returns one value per image, NaN where there is none."""
        return [row.get(metric, {}).get(method, math.nan) for row in self.images.values()]

    def counted(self, metric: str) -> tuple[list[str], list[str]]:
        """Returns the methods that have a mean of a metric, and the images in it.

        A mean is over the images for which the metric is defined for all these methods, so that no
        method gains by an image on which it has no value.  A method without a value on more than
        half of the images that have one for some method has no mean.
        """
        if metric not in self._counted:
            self._counted[metric] = self._count(metric)
        return self._counted[metric]

    @functools.cached_property
    def _counted(self) -> dict[str, tuple[list[str], list[str]]]:
        return {}

    def _count(self, metric: str) -> tuple[list[str], list[str]]:
        defined = {
            method: [
                stem
                for stem, row in self.images.items()
                if not math.isnan(row.get(metric, {}).get(method, math.nan))
            ]
            for method in self.methods
        }
        some = {stem for stems in defined.values() for stem in stems}
        methods = [m for m in self.methods if defined[m] and 2 * len(defined[m]) >= len(some)]
        common = set(some).intersection(*(defined[method] for method in methods))
        return methods, [stem for stem in self.images if stem in common]

    def counted_values(self, metric: str, method: str) -> list[float]:
        """Returns a method's values on the images that are in the means of a metric."""
        methods, stems = self.counted(metric)
        return [self.images[stem][metric][method] for stem in stems] if method in methods else []

    def summary(self) -> Scores:
        """Returns the means, of all methods over the same images; see `counted`.

        An infinite value (PSNR of two identical images) makes the mean infinite.
        """
        return {
            metric: {method: mean(self.counted_values(metric, method)) for method in self.methods}
            for metric in self.metrics
        }

    def to_dataframe(self) -> Any:
        """Returns all scores as a pandas DataFrame.

        The rows are indexed by `method` and `image`, the columns are the metrics; a missing value
        is NaN.  A mean over a method's rows may be over other images than `summary` counts.

        Raises:
          UserError: pandas is not installed.
        """
        pandas = import_optional("pandas", "dataframes")
        rows = pandas.MultiIndex.from_product(
            [self.methods, list(self.images)], names=["method", "image"]
        )
        columns = {
            metric: [value for method in self.methods for value in self.values(metric, method)]
            for metric in self.metrics
        }
        return pandas.DataFrame(columns, index=rows)

    @functools.cached_property
    def notes(self) -> list[str]:
        """Sentences on each metric whose means are not over all images.

        They say for which images the metric cannot be computed and why; and where a value is NaN,
        when that happens and what is counted.
        """
        notes = [note(name) for name in self.metrics for note in (self._few_note, self._nan_note)]
        return [note for note in notes if note]

    def _few_note(self, name: str) -> str:
        lacking = [stem for stem, scores in self.images.items() if name not in scores]
        if not lacking:
            return ""
        note = f"{self.metric(name).title} is of {self.count - len(lacking)} of {self.count} images"
        reasons = self.impossible.get(name, {})
        if stem := next((stem for stem in lacking if stem in reasons), ""):
            others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            note += f": it {reasons[stem]} (image {stem}{others})"
        return f"{note}."

    def _nan_note(self, name: str) -> str:
        rows = [scores[name] for scores in self.images.values() if name in scores]
        undefined = {
            method: count
            for method in self.methods
            if (count := sum(math.isnan(row.get(method, 0.0)) for row in rows))
        }
        if not undefined:
            return ""
        metric, (methods, stems) = self.metric(name), self.counted(name)
        where = ", ".join(f"{method_title(m)} on {count}" for m, count in undefined.items())
        when = metric.nan_when or "for some images"
        note = f"{metric.title} is undefined (–) {when}: {where} of {len(rows)}."
        if methods and len(stems) < len(rows):
            note += f" Its means are over the {len(stems)} on which {_all_of(self, methods)} it."
        return note

    @functools.cached_property
    def statistics(self) -> dict[str, dict[str, Statistic]]:
        """Metric -> method -> statistic."""
        statistics = {}
        for metric, means in self.summary().items():
            places = ranks(metric, {method: means[method] for method in self.ranked})
            statistics[metric] = {
                method: Statistic(
                    mean,
                    *mean_interval(self.counted_values(metric, method)),
                    places.get(method, math.nan),
                    len(self.counted_values(metric, method)),
                )
                for method, mean in means.items()
            }
        return statistics

    @functools.cached_property
    def mean_ranks(self) -> dict[str, float]:
        """Ranked method -> mean of its ranks over the metrics in which all ranked methods have one.

        A metric in which one has none would change the others' ranks.
        """
        rows = [
            row
            for row in self.statistics.values()
            if not any(math.isnan(row[method].rank) for method in self.ranked)
        ]
        return {method: mean([row[method].rank for row in rows]) for method in self.ranked}


def _all_of(results: Results, methods: Sequence[str]) -> str:
    """Who is counted, with the verb: all methods, or all but those that are named."""
    others = [method_title(m) for m in results.methods if m not in methods]
    return f"all but {', '.join(others)} have" if others else "all have"


def mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are not NaN, or NaN if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
