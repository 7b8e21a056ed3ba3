"""The solvers: order of convergence, times of their evaluations, scan and loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SOLVERS, SamplingConfig, time_grid

START = np.arange(12, dtype="f4").reshape(1, 2, 3, 2)
ORDERS = {"euler": 1, "heun": 2}


def test_every_solver_s_order_is_tested():
    own = {name for name, s in SOLVERS.items() if s.__module__.startswith("ditfuse_jax.")}
    assert set(ORDERS) == own


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_constant_velocity_is_integrated_exactly(name, steps, shift):
    end = SOLVERS[name](lambda x, t: 2 * jnp.asarray(START) + 1, START, time_grid(steps, shift))
    np.testing.assert_allclose(end, 3 * START + 1, rtol=1e-5)


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_the_error_falls_with_the_order_of_the_solver(name, order):
    """dx/dt = x + t has the solution (x0 + 1) e^t - t - 1."""
    expected = (START + 1) * np.e - 2
    errors = [
        np.abs(SOLVERS[name](lambda x, t: x + t, START, time_grid(steps)) - expected).max()
        for steps in (8, 16)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("times", [time_grid(1), time_grid(4), time_grid(4)[2:]])
def test_the_velocity_is_evaluated_from_the_first_time_and_never_at_the_last(name, times):
    times, seen = np.asarray(times), []

    def velocity(x, t):
        seen.append(float(t))
        return x

    SOLVERS[name](velocity, START, times)
    assert min(seen) == times[0]
    assert max(seen) < times[-1]


def test_evaluations_are_counted():
    counts = [SamplingConfig(steps=4, solver=name).num_evaluations for name in ("euler", "heun")]
    assert counts == [4, 7]


@pytest.mark.parametrize("name", ORDERS)
def test_a_scan_over_jax_times_and_a_loop_over_numpy_times_agree(name):
    def run(times):
        return SOLVERS[name](lambda x, t: t * x - 1, START, times)

    times = time_grid(5, 2.0)
    np.testing.assert_allclose(jax.jit(run)(times), run(np.asarray(times)), rtol=1e-6)


def test_euler_takes_the_velocity_at_the_beginning_of_every_step():
    times = np.array([0.0, 0.2, 0.7, 1.0], np.float32)
    x = START
    for t, t_next in itertools.pairwise(times):
        x = x + (t_next - t) * (t * x - 1)
    euler = SOLVERS["euler"]
    np.testing.assert_allclose(euler(lambda x, t: t * x - 1, START, times), x, rtol=1e-5)


def test_an_unknown_solver_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"^solver 'rk45' is unknown; choose from euler, heun"):
        SamplingConfig(solver="rk45")
