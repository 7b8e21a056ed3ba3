"""Training curves from logged records."""

import math

import numpy as np
import pytest

from ditfuse_jax.evaluate.reports.training_curves import (
    running_average,
    thinned,
    time_series,
    training_curves,
)


def drawn(plot):
    """The axes that a plot has drawn on."""
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    plot.draw(axes)
    return axes


def test_a_curve_shows_values_at_their_steps_and_a_smooth_line_over_them():
    records = [{"step": 10 * i, "loss": 2 + math.cos(i)} for i in range(200)]
    (plot,) = training_curves(records)
    raw, smooth = drawn(plot).lines
    assert raw.get_xdata().tolist() == smooth.get_xdata().tolist() == list(range(0, 2000, 10))
    np.testing.assert_allclose(raw.get_ydata(), [record["loss"] for record in records])
    assert smooth.get_ydata().std() < 0.6 * raw.get_ydata().std()
    assert plot.title == "loss" and plot.note == f"{smooth.get_ydata()[-1]:.4g} at the end"


def test_a_long_curve_is_thinned_to_means_of_neighbours():
    points = np.stack([np.arange(5000.0), np.arange(5000.0) ** 2], axis=1)
    fewer = thinned(points)
    assert len(fewer) == 400
    np.testing.assert_allclose(fewer[0], points[:13].mean(axis=0))
    np.testing.assert_array_equal(thinned(points[:400]), points[:400])


def test_a_running_average_is_centred_and_keeps_a_line():
    values = np.linspace(0, 1, 400)
    smooth = running_average(values)
    np.testing.assert_allclose(smooth[8:-8], values[8:-8])
    assert smooth[0] == pytest.approx(values[:9].mean())


@pytest.mark.parametrize("last, scale", [(1.0, "log"), (10.0, "linear"), (-1.0, "linear")])
def test_a_loss_that_spans_decades_has_a_logarithmic_scale(last, scale):
    (plot,) = training_curves([{"step": 0, "loss": 100.0}, {"step": 9, "loss": last}])
    assert drawn(plot).get_yscale() == scale
    assert ("log scale" in plot.title) == (scale == "log")


def test_a_step_logged_again_after_a_resume_replaces_the_first():
    records = [{"step": s, "loss": v} for s, v in [(1, 1.0), (2, 9.0), (2, 2.0), (3, 3.0)]]
    assert time_series(records, "loss").tolist() == [[1, 1], [2, 2], [3, 3]]


def test_validation_has_its_own_curve_and_other_quantities_none():
    records = [{"step": i, "loss": 1.0, "eval/psnr": float(i), "lr": 0.1} for i in range(3)]
    assert [plot.title for plot in training_curves(records)] == ["loss", "eval/psnr"]


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
