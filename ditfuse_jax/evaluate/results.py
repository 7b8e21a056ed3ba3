"""The scores of several methods on several images, beside those of trivial methods.

Fidelity to the sources is easily gamed (copying one source scores well), so no table is complete
without the baselines.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from ditfuse_jax.evaluate.baselines import CEILINGS, is_baseline
from ditfuse_jax.evaluate.bootstrap import mean_interval, ranks
from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, METRICS, Metric

Scores = dict[str, dict[str, float]]  # metric -> method -> value


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A metric's mean over the images, its 95 % interval and its place among the methods.

    NaN where undefined: `low` and `high` of a single image, `rank` of a line that does not compete.
    """

    mean: float
    low: float
    high: float
    rank: float


@dataclasses.dataclass(frozen=True)
class Results:
    """Scores of several methods on several images.

    Attributes:
      images: stem -> metric -> method -> value.
      excluded: stem -> why this image was not scored.
      preset: of `METRIC_PRESETS`: the metrics' conventions.
    """

    images: dict[str, Scores]
    excluded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preset: str = "canonical"

    @property
    def count(self) -> int:
        return len(self.images)

    @functools.cached_property
    def methods(self) -> list[str]:
        """All methods, in the order in which they first appear."""
        rows = [row for scores in self.images.values() for row in scores.values()]
        return list(dict.fromkeys(method for row in rows for method in row))

    @property
    def own(self) -> str:
        """The method that the evaluation is about: the first."""
        return self.methods[0]

    @property
    def competing(self) -> list[str]:
        """Who is ranked: the methods; the baselines too where there are not two of them."""
        methods = [method for method in self.methods if not is_baseline(method)]
        return methods if len(methods) > 1 else [m for m in self.methods if m not in CEILINGS]

    @functools.cached_property
    def metrics(self) -> list[str]:
        """All metrics that some image has, in the registry's order."""
        return [name for name in METRICS if any(name in row for row in self.images.values())]

    def metric(self, name: str) -> Metric:
        """The metric as the preset computes it."""
        return METRIC_PRESETS[self.preset].metric(name)

    def values(self, metric: str, method: str) -> list[float]:
        """One per image, NaN where there is none."""
        return [row.get(metric, {}).get(method, math.nan) for row in self.images.values()]

    def summary(self) -> Scores:
        """Returns the mean over the images; those where a value is missing or NaN are left out.

        An infinite value (PSNR of two identical images) makes the mean infinite.
        """
        return {
            metric: {method: mean(self.values(metric, method)) for method in self.methods}
            for metric in self.metrics
        }

    @functools.cached_property
    def nan_notes(self) -> list[str]:
        """A sentence for each metric with a NaN value: when that happens."""
        return [
            f"{self.metric(name).title} is undefined (–, in no mean)"
            f" {self.metric(name).nan_when or 'for some images'}."
            for name in self.metrics
            if any(
                math.isnan(value)
                for scores in self.images.values()
                for value in scores.get(name, {}).values()
            )
        ]

    @functools.cached_property
    def statistics(self) -> dict[str, dict[str, Statistic]]:
        """metric -> method -> mean, interval and rank."""
        statistics = {}
        for metric, means in self.summary().items():
            places = ranks(metric, {method: means[method] for method in self.competing})
            statistics[metric] = {
                method: Statistic(
                    mean,
                    *mean_interval(self.values(metric, method)),
                    places.get(method, math.nan),
                )
                for method, mean in means.items()
            }
        return statistics

    @functools.cached_property
    def mean_ranks(self) -> dict[str, float]:
        """Of each competing method, over all metrics."""
        return {
            method: mean([row[method].rank for row in self.statistics.values()])
            for method in self.competing
        }


def mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are not NaN; NaN of none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
