"""Confidence intervals of means over images, and ranks of methods."""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.evaluate.metrics import METRICS

LEVEL = 0.95
_RESAMPLES = 2000
_SEED = 0


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the bootstrap 95 % interval of the mean of n values.

    Percentile method (Efron and Tibshirani 1993, section 13.3): the 2.5 % and 97.5 % quantiles of
    the means of 2000 resamples with replacement.  The resamples depend on n alone, so methods
    scored on the same images are resampled together, and a repeated call returns the same.

    NaN values are ignored.  With fewer than two values, or an infinite one, there is no interval:
    (NaN, NaN).
    """
    defined = np.array([value for value in values if not math.isnan(value)], np.float64)
    if len(defined) < 2 or not np.isfinite(defined).all():
        return math.nan, math.nan
    means = _resampling(len(defined)) @ defined
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def ranks(metric: str, values: Mapping[str, float]) -> dict[str, float]:
    """Returns each method's rank by its mean: 1 is the best, ties share their mean rank.

    A method whose value is NaN has the rank NaN.
    """
    badness = {method: _badness(metric, value) for method, value in values.items()}
    defined = [bad for bad in badness.values() if not math.isnan(bad)]
    return {
        method: math.nan
        if math.isnan(bad)
        else sum(other < bad for other in defined) + (defined.count(bad) + 1) / 2
        for method, bad in badness.items()
    }


def best_methods(metric: str, values: Mapping[str, float], place: int = 1) -> set[str]:
    """Returns the methods with the best (`place` 2: second best) value: several in a tie."""
    badness = {m: b for m, v in values.items() if not math.isnan(b := _badness(metric, v))}
    distinct = sorted(set(badness.values()))
    if len(distinct) < place:
        return set()
    return {method for method, bad in badness.items() if bad == distinct[place - 1]}


def _badness(metric: str, value: float) -> float:
    """Smaller is better, whatever the metric's direction."""
    return -METRICS[metric].merit(value)


@functools.lru_cache(maxsize=2)
def _resampling(count: int) -> np.ndarray:
    """The weight of each value in each resample's mean, `(resamples, count)`."""
    generator = np.random.default_rng(_SEED)
    return generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES) / count
