"""Bootstrap intervals, ranks and best methods."""

import math

import numpy as np
import pytest

from ditfuse_jax.evaluate.bootstrap import best_methods, mean_interval, ranks

EN, MSE = "EN", "MSE"  # higher is better, lower is better


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, size: rng.normal(3.0, 2.0, size), 3.0),
        (lambda rng, size: rng.uniform(-1.0, 1.0, size), 0.0),
        (lambda rng, size: rng.exponential(1.0, size), 1.0),
    ],
    ids=["normal", "uniform", "exponential"],
)
def test_the_interval_covers_the_true_mean_with_its_nominal_frequency(draw, mean):
    rng = np.random.default_rng(0)
    intervals = [mean_interval(draw(rng, 60)) for _ in range(400)]
    covered = np.mean([low <= mean <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.98


def test_the_interval_narrows_with_the_root_of_the_number_of_images():
    rng = np.random.default_rng(1)
    few, many = (mean_interval(rng.normal(size=n)) for n in (50, 5000))
    ratio = (few[1] - few[0]) / (many[1] - many[0])
    assert 7 < ratio < 13


def test_the_same_values_have_the_same_interval_and_contain_their_mean():
    values = np.random.default_rng(2).gamma(2.0, size=30)
    low, high = mean_interval(values)
    assert (low, high) == mean_interval(list(values))
    assert low < values.mean() < high
    shifted = mean_interval(values + 5)
    assert shifted == pytest.approx((low + 5, high + 5))


@pytest.mark.parametrize("values", [[], [4.0], [4.0, math.nan], [1.0, math.inf, 2.0]])
def test_there_is_no_interval_of_one_value_or_an_infinite_one(values):
    assert all(map(math.isnan, mean_interval(values)))


def test_intervals_ignore_nan():
    values = [1.0, 2.0, 4.0, 8.0]
    assert mean_interval([math.nan, *values, math.nan]) == mean_interval(values)


def test_ties_share_their_mean_rank_and_nan_has_none():
    values = {"a": 3.0, "b": 5.0, "c": 3.0, "d": math.nan, "e": 1.0}
    assert ranks(EN, values) | {"d": 0} == {"a": 2.5, "b": 1.0, "c": 2.5, "d": 0, "e": 4.0}
    assert math.isnan(ranks(EN, values)["d"])
    assert ranks(MSE, {"a": 3.0, "b": 5.0, "c": math.inf}) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_ranks_with_ties_have_the_sum_of_ranks_without():
    rng = np.random.default_rng(3)
    for _ in range(50):
        values = {str(i): float(rng.integers(4)) for i in range(7)}
        places = ranks(EN, values)
        assert sum(places.values()) == 28
        for one in values:
            for other in values:
                assert (values[one] > values[other]) == (places[one] < places[other])


def test_the_best_methods_follow_the_direction_and_share_ties():
    assert best_methods(EN, {"a": 1.0, "b": 3.0, "c": math.nan}) == {"b"}
    assert best_methods(MSE, {"a": 1.0, "b": 3.0, "c": 1.0}) == {"a", "c"}
    assert best_methods(MSE, {"a": 1.0, "b": 3.0, "c": 1.0}, place=2) == {"b"}
    assert best_methods(EN, {"a": math.inf, "b": 9.0}) == {"a"}
    assert best_methods(EN, {"a": math.nan}) == set()
    assert best_methods(EN, {"a": 1.0}, place=2) == set()
