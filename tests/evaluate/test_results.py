"""Baselines, and what is computed from scores of many images."""

import math

import numpy as np
import pytest

from ditfuse_jax.evaluate.baselines import BASELINES, mean_of_sources
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.results import Results

EN, PSNR = "EN", "PSNR_clean"


def image(seed: int, shape: tuple[int, ...] = (9, 14, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("k", [2, 3])
def test_the_mean_of_sources_is_rounded_half_up_and_never_wraps(k):
    sources = [image(seed) for seed in range(k)]
    exact = np.mean(np.stack(sources).astype(np.float64), axis=0)
    np.testing.assert_array_equal(mean_of_sources(sources), np.floor(exact + 0.5))
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(mean_of_sources([white] * k), white)


def test_baselines_are_what_their_names_say():
    a, b = image(0), image(1)
    fused = {name: fuse([a, b]) for name, fuse in BASELINES.items()}
    np.testing.assert_array_equal(fused["copy_a"], a)
    np.testing.assert_array_equal(fused["copy_b"], b)
    np.testing.assert_array_equal(fused["max"], np.where(a > b, a, b))
    assert all(image.dtype == np.uint8 and image.shape == a.shape for image in fused.values())


def results(**rows: dict[str, float]) -> Results:
    """One image per word, its methods' scores of one metric."""
    return Results({stem: {EN: row} for stem, row in rows.items()})


def test_the_summary_is_the_mean_over_the_images():
    rows = {str(i): {"fused": float(i), "mean": i / 2} for i in range(3)}
    summary = results(**rows).summary()
    assert summary == {EN: {"fused": 1.0, "mean": 0.5}}


def test_images_without_a_clean_one_are_left_out_of_its_mean_only():
    scored = Results(
        {"pair": {EN: {"fused": 6.0}}, "photo": {PSNR: {"fused": 30.0}, EN: {"fused": 7.0}}}
    )
    assert scored.metrics == [name for name in METRICS if name in (EN, PSNR)]
    assert scored.summary() == {PSNR: {"fused": 30.0}, EN: {"fused": 6.5}}


def test_undefined_values_do_not_spoil_the_mean_but_infinite_ones_show():
    rows = {"0": {"fused": math.nan, "mean": math.inf}, "1": {"fused": 20.0, "mean": 1.0}}
    assert results(**rows).summary()[EN] == {"fused": 20.0, "mean": math.inf}


def test_a_single_method_competes_with_the_baselines_but_not_with_its_autoencoder():
    row = {"fused": 2.0, "autoencoder_of_clean": 9.0, "mean": 3.0, "copy_a": 1.0}
    scored = results(x=row, y=row)
    assert scored.own == "fused"
    assert scored.competing == ["fused", "mean", "copy_a"]
    ranks = {method: s.rank for method, s in scored.statistics[EN].items() if s.rank == s.rank}
    assert ranks == {"mean": 1.0, "fused": 2.0, "copy_a": 3.0}


def test_several_methods_compete_among_themselves():
    row = {"one": 2.0, "two": 2.0, "three": 1.0, "mean": 3.0, "copy_a": 1.0}
    scored = results(x=row, y=row)
    assert scored.own == "one"
    assert scored.mean_ranks == {"one": 1.5, "two": 1.5, "three": 3.0}
    assert math.isnan(scored.statistics[EN]["mean"].rank)


def test_intervals_stand_around_the_means_they_belong_to():
    rng = np.random.default_rng(0)
    rows = {str(i): {"a": rng.normal(5), "b": rng.normal(9)} for i in range(40)}
    for method, statistic in results(**rows).statistics[EN].items():
        assert statistic.mean == pytest.approx(np.mean([row[method] for row in rows.values()]))
        assert statistic.low < statistic.mean < statistic.high
        assert statistic.high - statistic.low < 1
