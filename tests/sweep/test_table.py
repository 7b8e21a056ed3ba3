"""The table: its arithmetic, its marks, its three spellings."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditfuse_jax.sweep.table import (
    ScoreRow,
    ScoreTable,
    SeedScores,
    make_table,
    to_csv,
    to_markdown,
    to_text,
    trials_csv,
)


def table(**values: dict[str, tuple[float, ...]]) -> ScoreTable:
    """Setting -> metric -> values."""
    rows = []
    for setting, of_metric in values.items():
        cells = {name: SeedScores(some) for name, some in of_metric.items()}
        done = max(map(len, of_metric.values()))
        rows.append(ScoreRow(setting, done, 2, cells))
    return ScoreTable(tuple(next(iter(values.values()))), tuple(rows))


TWO = table(
    a={"quality": (20.0, 22.0), "error": (100.0, 120.0)},
    b={"quality": (23.0,), "error": (150.0,)},
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_mean_and_deviation_are_those_of_a_sample(values):
    cell = SeedScores(tuple(values))
    assert cell.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert cell.deviation == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-6)


def test_fewer_than_two_finite_values_have_no_deviation():
    assert math.isnan(SeedScores(()).mean)
    for values in ((), (3.0,), (math.inf, 3.0)):
        assert math.isnan(SeedScores(values).deviation)
    assert SeedScores((math.inf, 3.0)).mean == math.inf


def test_the_best_setting_follows_the_metrics_direction_and_ties_are_all_best():
    assert TWO.best("quality") == {"b"} and TWO.best("error") == {"a"}
    nearest = table(a={"bias": (-3.0,)}, b={"bias": (0.5,)}, c={"bias": (1.0,)})
    assert nearest.best("bias") == {"b"}
    tie = table(a={"quality": (1.0, 3.0)}, b={"quality": (2.0, 2.0)}, c={"quality": (1.0,)})
    assert tie.best("quality") == {"a", "b"}


def test_a_single_setting_is_not_best():
    assert table(a={"quality": (1.0,)}, b={"quality": ()}).best("quality") == set()


def test_settings_without_a_value_are_never_best():
    cells = table(a={"quality": (1.0,)}, b={"quality": ()}, c={"quality": (0.5,)})
    assert cells.best("quality") == {"a"}


def test_markdown_has_a_line_per_setting_with_the_best_in_bold():
    assert to_markdown(TWO).splitlines() == [
        "| setting | seeds | Quality, dB ↑ | Error, levels² ↓ |",
        "| --- | ---: | ---: | ---: |",
        "| a | 2 | 21.00 ± 1.41 | **110.00** ± 14.14 |",
        "| b | 1 of 2 | **23.00** | 150.00 |",
    ]


def test_a_setting_cannot_break_a_markdown_table():
    text = to_markdown(table(**{"a|b": {"quality": (1.0,)}}))
    assert text.splitlines()[2].startswith("| a\\|b | 1 of 2 |")


def test_the_table_for_a_terminal_is_aligned_and_marks_the_best():
    header, first, second = to_text(TWO).splitlines()
    assert first.split() == ["a", "2", "21.00", "±", "1.41", "110.00", "±", "14.14*"]
    assert second.split() == ["b", "1", "of", "2", "23.00*", "150.00"]
    assert header.index(" ↑") < header.index("Error")
    assert second.index("23.00*") + len("23.00*") == first.index("1.41") + len("1.41") + 1


def test_csv_holds_the_numbers_unrounded():
    values = (1 / 3, 2 / 7)
    rows = list(csv.DictReader(io.StringIO(to_csv(table(**{'a, "b"': {"quality": values}})))))
    assert rows[0]["setting"] == 'a, "b"' and rows[0]["seeds"] == "2"
    assert float(rows[0]["quality_mean"]) == np.mean(values)
    assert float(rows[0]["quality_deviation"]) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    (single,) = csv.DictReader(io.StringIO(to_csv(table(b={"quality": (3.0,)}))))
    assert single["quality_deviation"] == ""


def test_scalars_of_named_evaluations_and_of_extensions_are_in_the_table():
    made = table(
        a={"pairs/error": (1.0,), "mine": (1.0,)}, b={"pairs/error": (2.0,), "mine": (2.0,)}
    )
    assert (
        to_markdown(made).splitlines()[0] == "| setting | seeds | pairs: Error, levels² ↓ | mine |"
    )
    assert made.best("pairs/error") == {"a"} and made.best("mine") == set()


def test_all_scalars_of_the_last_evaluation_are_collected_metrics_first(plan):
    made = plan({"a": ()}, seeds=(0,))
    (training,) = made.trainings
    (training.folder / "checkpoints" / "3").mkdir(parents=True)
    line = '{"step": 3, "eval/mine": 5.0, "eval/pairs/error": 4.0, "eval/quality": 2.0}\n'
    (training.folder / "metrics.jsonl").write_text(line)
    assert make_table(made).metrics == ("quality", "mine", "pairs/error")


@pytest.mark.processes
def test_trials_that_are_not_done_are_counted_and_omitted(fake, plan):
    from ditfuse_jax.sweep.local import run_plan

    failing = "--config.optimizer.warmup_steps=13"
    rate = "--config.optimizer.learning_rate=0.002"
    made = plan({"good": (rate,), "bad": (failing,)})
    run_plan(made, 2, quiet=True)
    gathered = make_table(made)
    assert gathered.metrics == ("quality",)
    assert [row.seeds for row in gathered.rows] == ["2", "0 of 2"]
    assert gathered.rows[0].cells["quality"].values == (2.0, 3.0)
    assert "**" not in to_markdown(gathered)
    lines = list(csv.DictReader(io.StringIO(trials_csv(made))))
    assert [line["quality"] for line in lines] == ["2.0", "3.0", "", ""]
    assert lines[0]["overrides"] == rate


def test_only_the_requested_metrics_are_shown_in_their_order(plan):
    made = plan(recipe="", overrides=(), checkpoint="m", evaluate=("--data", "x"),
                settings={"a": ()}, seeds=(0,), metrics=("spread", "quality"))  # fmt: skip
    (trial,) = made.trials
    trial.folder.mkdir(parents=True)
    report = '{"quality": {"fused": 2.0}, "detail": {"fused": 7.0}, "spread": {"fused": 50.0}}'
    (trial.folder / "report.json").write_text(report)
    trial.mark_scored()
    assert make_table(made).metrics == ("spread", "quality")


def test_a_sweep_without_any_score_has_a_table_of_names(plan):
    empty = make_table(plan())
    assert empty.metrics == ()
    assert [row.seeds for row in empty.rows] == ["0 of 2", "0 of 2"]
    assert "slow" in to_text(empty) and "slow" in to_csv(empty) and "slow" in to_markdown(empty)
