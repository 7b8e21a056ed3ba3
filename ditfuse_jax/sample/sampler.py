"""The sampler: from noise to images in one jitted program.

The condition passes through the transformer once per guidance branch; the steps then run over the
target's tokens only.  Branches are folded into the batch, so each step is one forward pass.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.flow import combine, euler, time_grid, to_velocity
from ditfuse_jax.model import Condition, DiTFuse
from ditfuse_jax.model.axes import constraints
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Sharder

Sampler = Callable[[Any, Condition, jax.Array, jax.Array], jax.Array]


def sample(
    model: DiTFuse,
    branches: Condition,
    noise: jax.Array,
    weights: jax.Array,
    times: jax.Array,
) -> jax.Array:
    """Integrates the guided flow from noise to image.

    Args:
      model: the network.
      branches: conditions of the R guidance branches, every leaf (R, B, ...).
      noise: (B, H, W, C) standard normal.
      weights: (R,) share of each branch; see `Guidance.weights`.
      times: (S + 1,) from 0 to 1.

    Returns:
      (B, H, W, C): pixels in about [-1, 1], or latents.
    """
    num_branches, batch = branches.tokens.shape[:2]
    condition = jax.tree.map(lambda x: x.reshape(num_branches * batch, *x.shape[2:]), branches)
    encoded = model.encode(condition, _longest_per_branch(model, condition, num_branches))

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        noisy = jnp.tile(x, (num_branches, 1, 1, 1))
        t = jnp.broadcast_to(t, (num_branches * batch,))
        output = model.denoise(encoded, condition, noisy, t)
        # No floor: the last Euler step then lands on the prediction, however many steps there are.
        guided = to_velocity(model.config.prediction, output, noisy, t, min_remaining=1e-6)
        return combine(guided.reshape(num_branches, batch, *x.shape[1:]), weights)

    return euler(velocity, noise, times)


@functools.cache
def make_sampler(
    graph: nnx.GraphDef, steps: int, shift: float = 1.0, sharder: Sharder | None = None
) -> Sampler:
    """Compiles on first use per (shapes, number of branches); equal arguments share programs.

    Args:
      graph: the model's graph definition, from `nnx.split`.
      steps: number of Euler steps.
      shift: time shift, see `time_grid`.
      sharder: spreads the work over its mesh, on which the parameters must lie.

    Returns:
      A jitted function of (parameters, branches, noise, weights); see `sample`.
    """

    @jax.jit
    def run(parameters, branches, noise, weights):
        model = nnx.merge(graph, parameters)
        spread = constraints(sharder.activation) if sharder else contextlib.nullcontext()
        with spread:
            return sample(model, branches, noise, weights, time_grid(steps, shift))

    return run


@functools.cache
def make_transfer(space: Space) -> tuple[Callable, Callable]:
    """The jitted ways into the transformer's space and back; see `Space.enter` and `leave`."""
    return jax.jit(space.enter), jax.jit(space.leave)


def _longest_per_branch(model: DiTFuse, condition: Condition, num_branches: int) -> jax.Array:
    """(R * B,) each branch is a forward pass of its own for LongRoPE's choice of factors."""
    layout = model.layout(condition)
    valid = layout.condition_valid(condition.token_valid, condition.image_valid)
    _, positions = layout.positions(valid)
    longest = jnp.max(positions.reshape(num_branches, -1), axis=1)
    return jnp.repeat(longest, positions.shape[0] // num_branches)
