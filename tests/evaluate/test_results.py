"""Scores of many images: means, intervals, ranks, DataFrames."""

import math
import sys

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.results import Results

EN, PSNR = "EN", "PSNR_clean"


def results(**rows: dict[str, float]) -> Results:
    """One image per argument, with its methods' scores of one metric."""
    return Results({stem: {EN: row} for stem, row in rows.items()})


def test_the_summary_is_the_mean_over_the_images():
    rows = {str(i): {"fused": float(i), "mean": i / 2} for i in range(3)}
    summary = results(**rows).summary()
    assert summary == {EN: {"fused": 1.0, "mean": 0.5}}


def test_an_image_without_a_metric_is_ignored_in_that_metrics_mean_only():
    scored = Results(
        {"pair": {EN: {"fused": 6.0}}, "photo": {PSNR: {"fused": 30.0}, EN: {"fused": 7.0}}}
    )
    assert scored.metrics == [name for name in METRICS if name in (EN, PSNR)]
    assert scored.summary() == {PSNR: {"fused": 30.0}, EN: {"fused": 6.5}}


def test_means_ignore_nan_but_not_infinity():
    rows = {"0": {"fused": math.nan, "mean": math.inf}, "1": {"fused": 20.0, "mean": 1.0}}
    assert results(**rows).summary()[EN] == {"fused": 20.0, "mean": math.inf}


def test_a_single_method_is_ranked_among_the_baselines_but_not_its_autoencoder():
    row = {"fused": 2.0, "autoencoder_of_clean": 9.0, "mean": 3.0, "copy_a": 1.0}
    scored = results(x=row, y=row)
    assert scored.primary == "fused"
    assert scored.ranked == ["fused", "mean", "copy_a"]
    ranks = {method: s.rank for method, s in scored.statistics[EN].items() if s.rank == s.rank}
    assert ranks == {"mean": 1.0, "fused": 2.0, "copy_a": 3.0}


def test_several_methods_are_ranked_without_the_baselines():
    row = {"one": 2.0, "two": 2.0, "three": 1.0, "mean": 3.0, "copy_a": 1.0}
    scored = results(x=row, y=row)
    assert scored.primary == "one"
    assert scored.mean_ranks == {"one": 1.5, "two": 1.5, "three": 3.0}
    assert math.isnan(scored.statistics[EN]["mean"].rank)


def test_an_interval_contains_its_mean():
    rng = np.random.default_rng(0)
    rows = {str(i): {"a": rng.normal(5), "b": rng.normal(9)} for i in range(40)}
    for method, statistic in results(**rows).statistics[EN].items():
        assert statistic.mean == pytest.approx(np.mean([row[method] for row in rows.values()]))
        assert statistic.low < statistic.mean < statistic.high
        assert statistic.high - statistic.low < 1


def test_a_dataframe_has_a_row_per_method_and_image_and_a_column_per_metric():
    pytest.importorskip("pandas")
    frame = Results(
        {
            "x": {EN: {"fused": 6.0, "mean": 5.0}},
            "y": {PSNR: {"fused": 30.0}, EN: {"fused": 7.0, "mean": 4.0}},
        }
    ).to_dataframe()
    assert frame.index.names == ["method", "image"] and set(frame.columns) == {EN, PSNR}
    assert frame.loc[("fused", "y"), EN] == 7 and frame.loc[("mean", "x"), EN] == 5
    assert frame[PSNR].notna().sum() == 1 and frame.loc[("fused", "y"), PSNR] == 30
    assert frame.groupby("method")[EN].mean().to_dict() == {"fused": 6.5, "mean": 4.5}


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"^pandas is not .* 'ditfuse-jax\[dataframes\]'$"):
        results(x={"fused": 1.0}).to_dataframe()
