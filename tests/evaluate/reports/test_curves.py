"""Training curves from logged records."""

import math

import pytest

from ditfuse_jax.evaluate.reports.curves import HEIGHT, WIDTH, training_curves


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]


def test_a_curve_fills_the_width_and_stays_within_the_panel():
    records = [{"step": i, "loss": 1 + math.cos(i)} for i in range(5000)]
    (curve,) = training_curves(records)
    line = points(curve.line)
    assert line[0][0] == 0 and line[-1][0] == WIDTH and len(line) < 1000
    assert all(0 <= y <= HEIGHT for _, y in line + points(curve.smooth))
    assert all(0 <= tick.position <= HEIGHT for tick in curve.values)
    assert all(0 <= tick.position <= WIDTH for tick in curve.steps)


def test_larger_values_are_higher_up():
    (curve,) = training_curves([{"step": 0, "loss": 1.0}, {"step": 9, "loss": 3.0}])
    first, last = points(curve.line)
    assert first[1] > last[1]


def test_ticks_stand_where_the_curve_has_their_value():
    (curve,) = training_curves([{"step": 10 * i, "loss": float(i)} for i in range(11)])
    line = points(curve.line)
    for tick in curve.values:
        assert line[int(float(tick.label))][1] == pytest.approx(tick.position, abs=0.06)


def test_a_steep_loss_is_drawn_on_a_logarithmic_scale():
    (curve,) = training_curves([{"step": i, "loss": 10.0 ** (2 - i)} for i in range(4)])
    assert "log scale" in curve.title
    heights = [y for _, y in points(curve.line)]
    assert heights == pytest.approx([i * HEIGHT / 3 for i in range(4)], abs=0.06)


def test_a_flat_curve_can_be_drawn():
    (curve,) = training_curves([{"step": i, "loss": 0.0} for i in range(3)])
    assert all(math.isfinite(y) for _, y in points(curve.line))


def test_a_step_logged_again_after_a_resume_replaces_the_first():
    records = [{"step": s, "loss": v} for s, v in [(1, 1.0), (2, 9.0), (2, 2.0), (3, 3.0)]]
    again = [record for record in records if record["loss"] != 9.0]
    assert training_curves(records) == training_curves(again)


def test_validation_has_its_own_curve_and_other_quantities_none():
    records = [{"step": i, "loss": 1.0, "eval/psnr": float(i), "lr": 0.1} for i in range(3)]
    assert [curve.title for curve in training_curves(records)] == ["loss", "eval/psnr"]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"loss": 1.0}, {"loss": 2.0}],
        [{"step": 1, "loss": math.nan}, {"step": 2, "loss": "n/a"}, {"step": 3, "loss": 1.0}],
    ],
)
def test_fewer_than_two_points_make_no_curve(records):
    assert training_curves(records) == []
