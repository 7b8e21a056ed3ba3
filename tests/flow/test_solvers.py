"""The solvers: order of convergence, times of their evaluations, scan and loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SOLVERS, SamplingConfig, find_solver, time_grid
from ditfuse_jax.flow.solvers import loop
from ditfuse_jax.sample.sampler import make_sampler

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


def implicit(velocity, x, times):
    return loop(lambda x, t, t_next: x + (t_next - t) * velocity(x, t_next), x, times)


def implicit_scan(velocity, x, times):
    return implicit(velocity, x, jnp.asarray(times))


def failing(velocity, x, times):
    return x + times.no_such_attribute


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (implicit, "solver 'own' evaluates the velocity at the last time"),
        (implicit_scan, "solver 'own' evaluates the velocity at the last time"),
        (failing, "solver 'own' fails on a NumPy array of times: AttributeError: .*no_such"),
    ],
)
@pytest.mark.parametrize("tile", [0, 64])
def test_a_sampler_refuses_a_solver_that_breaks_the_contract(solver, message, tile, monkeypatch):
    monkeypatch.setattr(SOLVERS, "_entries", dict(SOLVERS))
    SOLVERS.register("own", solver)
    with pytest.raises(UserError, match=f"^{message}"):
        make_sampler(None, SamplingConfig(solver="own", tile=tile))  # pyright: ignore


@pytest.mark.parametrize("scanned", [False, True])
def test_a_solver_that_keeps_the_contract_is_found(scanned, monkeypatch):
    def own(velocity, x, times):
        return SOLVERS["heun"](velocity, x, jnp.asarray(times) if scanned else times)

    monkeypatch.setattr(SOLVERS, "_entries", dict(SOLVERS))
    SOLVERS.register("own", own)
    assert find_solver("own") is own
