"""Solvers of the flow's ordinary differential equation dx/dt = velocity(x, t).

A solver is a function `solver(velocity, x, times)` that returns x at `times[-1]`, given

  velocity: maps x (B, H, W, C) and a scalar time to dx/dt, of the shape of x.
  x: the state at `times[0]`.
  times: (S + 1,) strictly increasing, from 0 (noise) to 1 (image) or a part of that range.

Contract about the end points: `velocity` may be evaluated at `times[0]` and at every time below
`times[-1]`, never at `times[-1]`: at t = 1 a model that predicts the clean image has no velocity,
(prediction - x) / (1 - t).  A method that needs both ends of a step, like Heun's, therefore takes
its last step as Euler does.  `find_solver` refuses solvers that break this contract.

A solver is written once for the plain and the tiled sampler, with `loop` for its steps.  If
`times` is a JAX array, the steps are one `lax.scan` and the model is compiled once.  If it is a
NumPy array, they are a Python loop and `velocity` may itself run compiled programs, for example
one per group of tiles.  x and what `velocity` returns are then NumPy arrays too: a solver that
computes with operators, or with `module_of(x)`, needs no program for each size of image.

Here are the methods of one step; `flow.multistep` has those that reuse earlier evaluations.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry

Array = Any  # jax.Array in compiled programs, np.ndarray outside of them
Times = jax.Array | np.ndarray
Velocity = Callable[[Array, Array], Array]
Solver = Callable[[Velocity, Array, Times], Array]
Carry = TypeVar("Carry")

SOLVERS: Registry[Solver] = Registry("solver")


def loop(step: Callable[[Carry, jax.Array, jax.Array], Carry], carry: Carry, times: Times) -> Carry:
    """Applies `carry = step(carry, t, t_next)` to consecutive times.

    Args:
      step: one step of a solver.
      carry: x, or a pytree of x and what later steps need (earlier velocities of a multistep
        method), whose structure and shapes stay the same.
      times: a JAX array runs as `lax.scan`, a NumPy array as a Python loop.
    """
    if isinstance(times, np.ndarray):
        for t, t_next in itertools.pairwise(times):
            carry = step(carry, t, t_next)
        return carry
    carry, _ = jax.lax.scan(lambda c, span: (step(c, *span), None), carry, (times[:-1], times[1:]))
    return carry


def module_of(x: Array) -> Any:
    """Returns the module that computes with x: NumPy for its arrays and numbers, else jax.numpy."""
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def find_solver(name: str) -> Solver:
    """Returns the solver of that name, after trying it on NumPy arrays of one number and of times.

    Raises:
      UserError: it is unknown, fails, or evaluates the velocity at the last time.
    """
    solver = SOLVERS.find(name)
    times = np.array([0, 0.25, 0.5, 1], np.float32)  # sums and differences are exact
    at_the_end = UserError(
        f"solver {name!r} evaluates the velocity at the last time, where it is undefined: "
        "take the last step without it"
    )

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        if isinstance(t, jax.core.Tracer):  # a solver with a loop of its own
            return jnp.where(t >= times[-1], jnp.nan, x)
        if t >= times[-1]:
            raise at_the_end
        return x

    try:
        with jax.debug_nans(False):
            end = np.asarray(solver(velocity, np.ones((1, 1, 1, 1), np.float32), times))
    except UserError:
        raise
    except Exception as error:  # whatever the solver raises
        raise UserError(
            f"solver {name!r} fails on NumPy arrays: {type(error).__name__}: {error}"
        ) from error
    if np.isnan(end).any():
        raise at_the_end
    return solver


def count_evaluations(solver: Solver, steps: int) -> int:
    """Returns how often a solver evaluates the velocity in that many steps."""
    count = 0

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return x

    solver(velocity, jnp.zeros((1, 1, 1, 1)), np.linspace(0, 1, steps + 1, dtype=np.float32))
    return count


@SOLVERS.register("euler")
def euler(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """Explicit Euler: first order, one evaluation per step."""

    def step(x: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
        return x + (t_next - t) * velocity(x, t)

    return loop(step, x, times)


@SOLVERS.register("heun")
def heun(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """Heun's method: second order, two evaluations per step but for the last one.

    The last step is Euler's, as in Karras et al. 2022 (algorithm 1).
    """

    def step(x: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
        span, first = t_next - t, velocity(x, t)
        second = velocity(x + span * first, t_next)
        return x + 0.5 * span * (first + second)

    return euler(velocity, loop(step, x, times[:-1]), times[-2:])


@SOLVERS.register("midpoint")
def midpoint(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """The explicit midpoint rule: second order, two evaluations per step.

    Its second evaluation is in the middle of the step, so the last step is no exception (Hairer,
    Norsett and Wanner, Solving Ordinary Differential Equations I, section II.1, eq. 1.3).
    """

    def step(x: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
        half = 0.5 * (t_next - t)
        return x + 2 * half * velocity(x + half * velocity(x, t), t + half)

    return loop(step, x, times)
