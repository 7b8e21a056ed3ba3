"""The solvers: order of convergence, times of their evaluations, scan and loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SOLVERS, SamplingConfig, find_solver, time_grid
from ditfuse_jax.flow.multistep import _phi
from ditfuse_jax.flow.solvers import loop
from ditfuse_jax.sample.sampler import make_sampler

START = np.arange(12, dtype="f4").reshape(1, 2, 3, 2)
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2, "ab2": 2, "dpmpp_2m": 2, "unipc": 2}
# Evaluations in one step and in four.
EVALUATIONS = {
    "euler": (1, 4),
    "heun": (1, 7),
    "midpoint": (2, 8),
    "ab2": (1, 4),
    "dpmpp_2m": (1, 4),
    "unipc": (1, 4),
}


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
    """dx/dt = x cos(t) has the solution x0 exp(sin(t) - sin(t0))."""

    def error(begin, end, steps):
        times = np.linspace(begin, end, steps + 1, dtype="f4")
        expected = START * np.exp(np.sin(end) - np.sin(begin))
        return np.abs(SOLVERS[name](lambda x, t: x * jnp.cos(t), START, times) - expected).max()

    assert np.log2(error(0.1, 0.5, 12) / error(0.1, 0.5, 24)) == pytest.approx(order, abs=0.25)
    # Solvers over lambda, which is infinite at 0 and 1, approach their order slowly there.
    on_all = np.log(error(0, 1, 12) / error(0, 1, 96)) / np.log(8)
    assert on_all > {1: 0.95, 2: 1.2}[order]


@pytest.mark.parametrize("name", sorted(set(ORDERS) - {"euler"}))
def test_a_solver_of_second_order_is_closer_than_euler_at_equal_evaluations(name):
    """From noise to an image whose values are N(0.5, 0.3^2); the flow of that is known."""
    mean, deviation = 0.5, 0.3
    start = np.linspace(-2, 2, 12, dtype="f4").reshape(START.shape)

    def velocity(x, t):
        variance = (t * deviation) ** 2 + (1 - t) ** 2
        return mean + (t * deviation**2 - (1 - t)) / variance * (x - t * mean)

    def error(solver, steps):
        end = SOLVERS[solver](velocity, start, np.linspace(0, 1, steps + 1, dtype="f4"))
        return np.abs(end - (mean + deviation * start)).max()

    evaluations = 15 if name == "heun" else 16
    steps = {"heun": 8, "midpoint": 8}.get(name, 16)
    assert SamplingConfig(steps=steps, solver=name).num_evaluations == evaluations
    assert error(name, steps) < 0.75 * error("euler", evaluations)


def published(velocity, x, times, corrected):
    """DPM-Solver++(2M) or UniPC-2 as published, in float64 over lambda, on times inside (0, 1)."""
    lam = np.log(times) - np.log(1 - times)
    starts, cleans, last = [], [], len(times) - 2
    for i, t in enumerate(times[:-1]):
        clean = x + (1 - t) * velocity(x, t)
        if corrected and i:
            h = lam[i] - lam[i - 1]
            base = (1 - t) / (1 - times[i - 1]) * starts[-1] - t * np.expm1(-h) * cleans[-1]
            new = clean - cleans[-1]
            if i == 1:
                change = 0.5 * new
            else:
                back = (lam[i - 2] - lam[i - 1]) / h
                first = np.expm1(-h) / -h - 1
                second = first / -h - 0.5
                sides = np.array([first, 2 * second]) / np.expm1(-h)
                weights = np.linalg.solve([[1, 1], [back, 1]], sides)
                change = weights[0] * (cleans[-2] - cleans[-1]) / back + weights[1] * new
            x = base - t * np.expm1(-h) * change
        h = lam[i + 1] - lam[i]
        mixed = clean
        if 0 < i < last:
            ratio = (lam[i] - lam[i - 1]) / h
            mixed = (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * cleans[-1]
        starts.append(x)
        cleans.append(clean)
        x = (1 - times[i + 1]) / (1 - t) * x - times[i + 1] * np.expm1(-h) * mixed
    return x


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_solvers_over_lambda_compute_the_published_formulas(name, steps):
    times = np.linspace(0.02, 0.98, steps + 1) ** 1.5

    def velocity(x, t):
        return 0.8 - x * (0.3 + t) + 0.02 * x**2 * t

    expected = published(velocity, START.astype("f8"), times, corrected=name == "unipc")
    found = SOLVERS[name](velocity, START, times.astype("f4"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
def test_solvers_over_lambda_have_no_undefined_intermediate_values_at_its_infinite_ends(name):
    with jax.debug_nans(True):
        end = SOLVERS[name](lambda x, t: x * jnp.cos(t), START, np.linspace(0, 1, 6, dtype="f4"))
    assert np.isfinite(end).all()


@pytest.mark.parametrize("z", [-40.0, -0.51, -0.49, -1e-3, -1e-8])
def test_the_phi_functions_are_accurate_for_all_arguments(z):
    exact = [quad(lambda s, k=k: np.exp((1 - s) * z) * s**k / max(k, 1), 0, 1)[0] for k in range(3)]
    np.testing.assert_allclose(_phi(np.float32(z)), exact, rtol=2e-5)


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


@pytest.mark.parametrize("name", ORDERS)
def test_evaluations_are_counted(name):
    counts = [SamplingConfig(steps=n, solver=name).num_evaluations for n in (1, 4)]
    assert tuple(counts) == EVALUATIONS[name]


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
        (failing, "solver 'own' fails on NumPy arrays: AttributeError: .*no_such"),
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
