"""Euler's method."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.flow import euler, time_grid

START = np.arange(12, dtype="f4").reshape(1, 2, 3, 2)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_constant_velocity_is_integrated_exactly(steps, shift):
    end = euler(lambda x, t: 2 * jnp.asarray(START) + 1, START, time_grid(steps, shift))
    np.testing.assert_allclose(end, 3 * START + 1, rtol=1e-5)


def test_every_step_takes_the_velocity_at_its_beginning():
    times = np.array([0.0, 0.2, 0.7, 1.0], np.float32)
    x = START
    for begin, end in itertools.pairwise(times):
        x = x + (end - begin) * (begin * x - 1)
    np.testing.assert_allclose(euler(lambda x, t: t * x - 1, START, times), x, rtol=1e-5)


def test_the_error_halves_with_twice_the_steps():
    """dx/dt = x has the solution e * x; Euler is of first order."""
    errors = [
        float(np.abs(euler(lambda x, t: x, START, time_grid(steps)) - np.e * START).max())
        for steps in (32, 64)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
