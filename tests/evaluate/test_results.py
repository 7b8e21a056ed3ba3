"""Scores of many images: means, intervals, ranks, DataFrames."""

import math
import sys
from typing import ClassVar

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


def test_an_infinite_value_makes_the_mean_infinite():
    rows = {"0": {"fused": 10.0, "mean": math.inf}, "1": {"fused": 20.0, "mean": 1.0}}
    assert results(**rows).summary()[EN] == {"fused": 15.0, "mean": math.inf}


class TestUndefined:
    """A metric without a value for some methods on some images."""

    ROWS: ClassVar = {
        "hard": {"one": math.nan, "two": 1.0, "copy_a": math.nan},
        "easy": {"one": 5.0, "two": 5.5, "copy_a": math.nan},
        "fair": {"one": 4.0, "two": 4.5, "copy_a": 9.0},
    }

    def test_a_method_does_not_gain_by_an_image_on_which_it_has_no_value(self):
        """Over its own two images, one would win; over the same images, two does."""
        scored = results(**self.ROWS)
        row = scored.statistics[EN]
        assert (row["one"].mean, row["two"].mean) == (4.5, 5.0)
        assert (row["one"].rank, row["two"].rank) == (2.0, 1.0)
        assert (row["one"].count, row["two"].count) == (2, 2)
        assert scored.summary()[EN]["two"] == row["two"].mean

    def test_the_intervals_are_of_the_counted_images(self):
        row = results(**self.ROWS).statistics[EN]
        assert row["two"].low >= 4.5 and row["one"].high <= 5.0

    def test_a_method_without_most_values_has_no_mean_and_takes_no_image_from_the_others(self):
        scored = results(**self.ROWS)
        assert math.isnan(scored.statistics[EN]["copy_a"].mean)
        assert scored.statistics[EN]["copy_a"].count == 0
        assert scored.counted(EN) == (["one", "two"], ["easy", "fair"])

    def test_the_note_says_who_has_no_value_and_what_is_counted(self):
        (note,) = results(**self.ROWS).notes
        assert note.endswith(
            "one on 1, copy A on 2 of 3. Its means are over the 2 on which all but copy A have it."
        )

    def test_methods_that_share_no_image_have_no_mean(self):
        rows = {"0": {"one": 1.0, "two": math.nan}, "1": {"one": math.nan, "two": 2.0}}
        row = results(**rows).statistics[EN]
        assert math.isnan(row["one"].mean) and math.isnan(row["two"].mean)


def test_a_metric_that_some_images_lack_is_noted_with_the_reason_and_one_of_them():
    rows = {str(i): {EN: {"fused": 6.0}} for i in range(4)}
    rows["0"][PSNR] = {"fused": 30.0}
    why = dict.fromkeys("123", "compares with a clean image, and there is none")
    scored = Results(rows, impossible={PSNR: why})
    assert scored.notes == [
        "PSNR to clean (RGB) is of 1 of 4 images: it compares with a clean image, and there is "
        "none (image 1 and 2 more)."
    ]
    assert Results(rows).notes == ["PSNR to clean (RGB) is of 1 of 4 images."]


def test_the_counted_images_of_a_metric_are_found_once(monkeypatch):
    found = []
    count = Results._count
    monkeypatch.setattr(Results, "_count", lambda self, m: found.append(m) or count(self, m))
    scored = results(x={"one": 1.0, "two": 2.0}, y={"one": 3.0, "two": 4.0})
    assert scored.statistics[EN]["two"].count == 2 and scored.summary()[EN]["one"] == 2.0
    assert found == [EN]


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
