"""Solvers of the flow's ordinary differential equation.  A solver is one function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

VelocityFn = Callable[[jax.Array, jax.Array], jax.Array]


def euler(velocity: VelocityFn, start: jax.Array, times: jax.Array) -> jax.Array:
    """Explicit Euler along `times`, as one scan.

    Args:
      velocity: maps x (B, H, W, C) and a scalar time to dx/dt.
      start: x at `times[0]`.
      times: (S + 1,) increasing.

    Returns:
      x at `times[-1]`.
    """

    def step(x: jax.Array, span: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        begin, end = span
        return x + (end - begin) * velocity(x, begin), None

    final, _ = jax.lax.scan(step, start, (times[:-1], jnp.asarray(times[1:])))
    return final
