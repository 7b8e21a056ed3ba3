"""Which times training draws and which ones sampling visits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import TimeGrid, make_time_sampler, time_grid
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
        make_time_sampler(request.param)(jax.random.key(0), (COUNT // 2, 2))
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
        make_time_sampler("cosine")


def logit_normal(mean, std, share):
    return {"name": "logit_normal", "mean": mean, "std": std, "share_at_noise": share}


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("logit_normal", logit_normal(0.0, 1.0, 0.0)),
        ("noisy_logit_normal", logit_normal(-0.8, 0.8, 0.0)),
        ("half_at_noise", logit_normal(-0.8, 0.8, 0.5)),
        ("mostly_at_noise", logit_normal(-0.8, 0.8, 0.8)),
    ],
)
def test_the_names_of_earlier_recipes_draw_the_same_times_as_their_settings(name, spec):
    named, described = (make_time_sampler(s)(jax.random.key(3), (4, 5)) for s in (name, spec))
    np.testing.assert_array_equal(named, described)


def test_the_times_of_earlier_recipes_are_the_same_to_the_bit():
    """The formulas that trained the bundled model, written out."""
    key, shape = jax.random.key(7), (64, 2)
    coins, rest = jax.random.split(key)
    near_noise = jax.nn.sigmoid(jax.random.normal(rest, shape) * 0.8 - 0.8)
    expected = jnp.where(jax.random.bernoulli(coins, 0.8, shape), 0.0, near_noise)
    np.testing.assert_array_equal(make_time_sampler("mostly_at_noise")(key, shape), expected)
    plain = jax.nn.sigmoid(jax.random.normal(key, shape))
    np.testing.assert_array_equal(make_time_sampler("logit_normal")(key, shape), plain)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "logit_normal", "std": 0.0},
            r"flow\.time_sampler\.std must be above 0",
        ),
        (
            {"name": "logit_normal", "mean": "abc"},
            r"flow\.time_sampler\.mean must be a finite number, not 'abc'",
        ),
        ({"name": "logit_normal", "mean": float("nan")}, r"time_sampler\.mean .* not nan"),
        ({"name": "logit_normal", "std": "1"}, r"time_sampler\.std must be a finite .* not '1'"),
        ({"name": "logit_normal", "std": float("inf")}, r"time_sampler\.std .* not inf"),
        ({"name": "logit_normal", "std": -1}, r"time_sampler\.std must be above 0, not -1"),
        ({"name": "logit_normal", "share_at_noise": "half"}, r"share_at_noise .* not half"),
        ({"name": "logit_normal", "share_at_noise": -0.1}, r"share_at_noise .* not -0\.1"),
        ({"name": "logit_normal", "share_at_noise": 2}, r"share_at_noise must be in 0\.\.1, not 2"),
        ({"name": "uniform", "mean": 1.0}, "'mean'.*--config.flow.time_sampler=uniform"),
        ({"mean": 1.0}, "needs a name"),
    ],
)
def test_bad_settings_of_a_time_sampler_are_refused_by_key(spec, message):
    with pytest.raises(UserError, match=message):
        make_time_sampler(spec)


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


def test_an_unknown_time_sampler_is_named_as_such():
    with pytest.raises(UserError, match=r"^(flow\.)?time[ _]sampler"):
        make_time_sampler("nosuch")


@pytest.mark.parametrize("shift", [0.3, 1.0, 1.15, 3.0, 17.3])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_times_end_exactly_at_noise_and_image(steps, shift):
    grid = np.asarray(time_grid(steps, shift))
    assert grid[0] == 0 and grid[-1] == 1 and (np.diff(grid) > 0).all()


@pytest.mark.parametrize(
    ("rule", "tokens", "shift"),
    [
        ("constant", 64, 1.0),
        ("constant", 4096, 1.0),
        ("sd3", 256, 1.0),
        ("sd3", 1024, 2.0),
        ("sd3", 4096, 4.0),
        ("flux", 256, np.exp(0.5)),
        ("flux", 2176, np.exp(0.825)),
        ("flux", 4096, np.exp(1.15)),
    ],
)
def test_the_shift_follows_its_rule_and_multiplies_the_constant_one(rule, tokens, shift):
    for constant in (1.0, 1.5):
        found = TimeGrid(7, constant, rule)(tokens)
        np.testing.assert_allclose(found, time_grid(7, constant * shift), rtol=1e-6)
