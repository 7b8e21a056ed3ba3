"""The sampler: from noise to images.

The condition passes through the transformer once per guidance branch; the steps then run over the
target's tokens only.  Branches are folded into the batch, so each step is one forward pass.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from ditfuse_jax.flow import euler, time_grid
from ditfuse_jax.model import Condition, DiTFuse
from ditfuse_jax.model.axes import constraints
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Sharder
from ditfuse_jax.sample.guided import encode, guided_velocity
from ditfuse_jax.sample.tiled import TiledSampler

Sampler = Callable[[Any, Condition, jax.Array, jax.Array], jax.Array]


def sample(
    model: DiTFuse, branches: Condition, noise: jax.Array, weights: jax.Array, times: jax.Array
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
    encoded = encode(model, condition, num_branches)

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        return guided_velocity(model, encoded, condition, x, t, weights)

    return euler(velocity, noise, times)


@functools.cache
def make_sampler(
    graph: nnx.GraphDef,
    steps: int,
    shift: float = 1.0,
    sharder: Sharder | None = None,
    tile: int | None = None,
    global_steps: int = 0,
) -> Sampler:
    """Compiles on first use per (shapes, number of branches); equal arguments share programs.

    Args:
      graph: the model's graph definition, from `nnx.split`.
      steps: number of Euler steps.
      shift: time shift, see `time_grid`.
      sharder: spreads the work over its mesh, on which the parameters must lie.
      tile: side of the tiles, in pixels or latents, that larger images are cut into; None never
        cuts.
      global_steps: steps of larger images that are taken in small; see `TiledSampler`.

    Returns:
      A function of (parameters, branches, noise, weights), jitted if it never cuts; see `sample`.
    """

    @jax.jit
    def whole(parameters, branches, noise, weights):
        model = nnx.merge(graph, parameters)
        spread = constraints(sharder.activation) if sharder else contextlib.nullcontext()
        with spread:
            return sample(model, branches, noise, weights, time_grid(steps, shift))

    if tile is None:
        return whole
    in_tiles, times = TiledSampler(graph, tile, sharder), np.asarray(time_grid(steps, shift))

    def run(parameters, branches, noise, weights):
        if max(noise.shape[1:3]) <= tile:
            return whole(parameters, branches, noise, weights)
        return in_tiles(parameters, branches, noise, weights, times, global_steps)

    return run


@functools.cache
def make_transfer(space: Space) -> tuple[Callable, Callable]:
    """The jitted ways into the transformer's space and back; see `Space.encode` and `decode`."""
    return jax.jit(space.encode), jax.jit(space.decode)
