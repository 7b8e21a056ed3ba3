"""Which times training draws and which ones sampling visits."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import time_grid, time_sampler
from ditfuse_jax.flow.times import TIME_SAMPLERS

COUNT = 20_000


def sigmoid_of_normal(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and standard deviation of sigmoid(N(mean, deviation)), by quadrature."""
    x = np.linspace(-10, 10, 20_001)
    weights = np.exp(-(x**2) / 2)
    weights /= weights.sum()
    t = 1 / (1 + np.exp(-(mean + deviation * x)))
    first = weights @ t
    return first, np.sqrt(weights @ (t - first) ** 2)


def partly_zero(share: float, moments: tuple[float, float]) -> tuple[float, float]:
    """Moments where a share of the draws is zero."""
    mean, deviation = moments
    rest = 1 - share
    return rest * mean, np.sqrt(rest * (deviation**2 + mean**2) - (rest * mean) ** 2)


MOMENTS = {
    "logit_normal": sigmoid_of_normal(0.0, 1.0),
    "noisy_logit_normal": sigmoid_of_normal(-0.8, 0.8),
    "half_at_noise": partly_zero(0.5, sigmoid_of_normal(-0.8, 0.8)),
    "mostly_at_noise": partly_zero(0.8, sigmoid_of_normal(-0.8, 0.8)),
    "uniform": (0.5, np.sqrt(1 / 12)),
}


@pytest.fixture(scope="module", params=sorted(TIME_SAMPLERS))
def drawn(request):
    return request.param, np.asarray(
        time_sampler(request.param)(jax.random.key(0), (COUNT // 2, 2))
    )


def test_drawn_times_lie_between_noise_and_image(drawn):
    _, t = drawn
    assert t.shape == (COUNT // 2, 2)
    assert t.min() >= 0 and t.max() <= 1


def test_drawn_times_have_the_moments_of_their_distribution(drawn):
    name, t = drawn
    mean, deviation = MOMENTS[name]
    assert t.mean() == pytest.approx(mean, abs=5 * deviation / np.sqrt(COUNT))
    assert t.std() == pytest.approx(deviation, rel=0.03)


def test_an_unknown_time_sampler_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"'cosine'.*logit_normal"):
        time_sampler("cosine")


@settings(max_examples=25)
@given(st.sampled_from((1, 4, 50)), st.floats(0.2, 8.0))
def test_the_grid_rises_from_noise_to_the_image(steps, shift):
    grid = np.asarray(time_grid(steps, shift))
    assert len(grid) == steps + 1
    assert grid[0] == 0 and grid[-1] == pytest.approx(1, abs=1e-6)
    assert (np.diff(grid) > 0).all()


def test_without_shift_the_steps_are_uniform():
    np.testing.assert_allclose(time_grid(4), [0, 0.25, 0.5, 0.75, 1], atol=1e-7)


def test_the_shift_bends_uniform_times_towards_noise():
    u = np.linspace(0, 1, 11)
    shifted = np.asarray(time_grid(10, 3.0))
    np.testing.assert_allclose(shifted, u / (u + 3 - 3 * u), atol=1e-6)
    assert (shifted[1:-1] < u[1:-1]).all()
