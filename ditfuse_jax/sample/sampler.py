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
import numpy as np
from flax import nnx

from ditfuse_jax.flow import combine, euler, interpolate, time_grid, to_velocity
from ditfuse_jax.flow.solver import VelocityFn
from ditfuse_jax.model import Condition, DiTFuse, Encoded
from ditfuse_jax.model.axes import constraints
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Sharder
from ditfuse_jax.sample.tiles import Tiles, overview_size, plan_tiles

_TILES_AT_A_TIME = 8
_KEPT_BYTES = 2**31  # of the tiles' keys and values

Sampler = Callable[[Any, Condition, jax.Array, jax.Array], jax.Array]


def sample(
    model: DiTFuse,
    branches: Condition,
    noise: jax.Array,
    weights: jax.Array,
    times: jax.Array,
    tile: int | None = None,
    overview: int = 0,
) -> jax.Array:
    """Integrates the guided flow from noise to image.

    Args:
      model: the network.
      branches: conditions of the R guidance branches, every leaf (R, B, ...).
      noise: (B, H, W, C) standard normal.
      weights: (R,) share of each branch; see `Guidance.weights`.
      times: (S + 1,) from 0 to 1.
      tile: side of the tiles, in pixels or latents, that larger images are cut into; None never
        cuts.
      overview: how many first steps an image in tiles does not take, since they are done on the
        whole of it in small; see `_from_overview`.  If its shorter side is no longer than a tile
        it takes them all.

    Returns:
      (B, H, W, C): pixels in about [-1, 1], or latents.
    """
    num_branches, batch = branches.tokens.shape[:2]
    condition = jax.tree.map(lambda x: x.reshape(num_branches * batch, *x.shape[2:]), branches)
    _, height, width, _ = noise.shape
    if tile is not None and max(height, width) > tile:
        if overview and min(height, width) > tile:
            noise = _from_overview(model, branches, noise, weights, times, tile, overview)
            times = times[overview:]
        tiles = plan_tiles((height, width), tile, model.config.patch_size)
        return euler(_tiled(model, condition, weights, tiles), noise, times)
    encoded = model.encode(condition, _longest_per_branch(model, condition, num_branches))

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        return _guided(model, encoded, condition, x, t, weights)

    return euler(velocity, noise, times)


def _from_overview(
    model: DiTFuse,
    branches: Condition,
    noise: jax.Array,
    weights: jax.Array,
    times: jax.Array,
    tile: int,
    overview: int,
) -> jax.Array:
    """x_t at `times[overview]`, with the whole image in sight.

    What a scene is, and how bright it shall be, is settled in the first steps and needs more of it
    than one tile shows.  So the image is sampled at a size at which its shorter side is one tile's
    (along the longer one it may still take several), to the end; enlarged again, it is where the
    large image's path sets in.
    """
    batch, height, width, channels = noise.shape
    small = overview_size((height, width), tile, model.config.patch_size)
    images = branches.images
    seen = jax.image.resize(images, (*images.shape[:3], *small, channels), "linear")
    start = noise[:, : small[0], : small[1]]
    x = sample(model, branches._replace(images=seen), start, weights, times, tile)
    x = jax.image.resize(x, (batch, height, width, channels), "linear")
    return interpolate(x, noise, jnp.broadcast_to(times[overview], (batch,)))


def _guided(
    model: DiTFuse,
    encoded: Encoded,
    condition: Condition,
    x: jax.Array,
    t: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """The guided velocity at x (B, H, W, C) and a scalar time; conditions have R * B rows."""
    num_branches = weights.shape[0]
    noisy = jnp.tile(x, (num_branches, 1, 1, 1))
    t = jnp.broadcast_to(t, noisy.shape[:1])
    output = model.denoise(encoded, condition, noisy, t)
    # No floor: the last Euler step then lands on the prediction, however many steps there are.
    guided = to_velocity(model.config.prediction, output, noisy, t, min_remaining=1e-6)
    return combine(guided.reshape(num_branches, *x.shape), weights)


def _tiled(model: DiTFuse, condition: Condition, weights: jax.Array, tiles: Tiles) -> VelocityFn:
    """The guided velocity of a large image: that of its tiles, blended.

    Tiles join the batch, some at a time.  Their keys and values are computed once if they have room
    in `_KEPT_BYTES`, else anew at every step, so that memory does not grow with the image.
    """
    num_branches = weights.shape[0]
    corners = tiles.corners
    together = min(len(corners), _TILES_AT_A_TIME)
    padding = -len(corners) % together
    groups = jnp.asarray(np.pad(corners, ((0, padding), (0, 0)), mode="edge"))
    groups = groups.reshape(-1, together, 2)

    def cut(images: jax.Array, corners: jax.Array) -> jax.Array:
        """Rows (R * B, ...) to rows (R * tiles * B, ...), as `_guided` has them."""
        parts = jax.vmap(lambda corner: tiles.cut(images, corner))(corners)
        parts = parts.reshape(together, -1, images.shape[0] // num_branches, *parts.shape[2:])
        return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[3:])

    def at(corners: jax.Array) -> Condition:
        def repeat(x: jax.Array) -> jax.Array:
            rows = x.reshape(num_branches, 1, -1, *x.shape[1:])
            rows = jnp.broadcast_to(rows, (num_branches, together, *rows.shape[2:]))
            return rows.reshape(-1, *x.shape[1:])

        return Condition(
            repeat(condition.tokens),
            repeat(condition.token_valid),
            cut(condition.images, corners),
            repeat(condition.image_valid),
        )

    def encode(corners: jax.Array) -> Encoded:
        there = at(corners)
        return model.encode(there, _longest_per_branch(model, there, num_branches))

    bytes_of_group = sum(
        x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(encode, groups[0]))
    )
    kept = len(groups) * bytes_of_group <= _KEPT_BYTES
    encoded = jax.lax.map(encode, groups) if kept else None

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        def of_group(group: tuple[Encoded | None, jax.Array]) -> jax.Array:
            known, corners = group
            encoded = encode(corners) if known is None else known
            noisy = jax.vmap(lambda corner: tiles.cut(x, corner))(corners)
            rows = noisy.reshape(-1, *noisy.shape[2:])
            return _guided(model, encoded, at(corners), rows, t, weights).reshape(noisy.shape)

        parts = jax.lax.map(of_group, (encoded, groups))
        parts = parts.reshape(-1, *parts.shape[2:])[: len(corners)]
        return tiles.blend(parts)

    return velocity


@functools.cache
def make_sampler(
    graph: nnx.GraphDef,
    steps: int,
    shift: float = 1.0,
    sharder: Sharder | None = None,
    tile: int | None = None,
    overview: int = 0,
) -> Sampler:
    """Compiles on first use per (shapes, number of branches); equal arguments share programs.

    Args:
      graph: the model's graph definition, from `nnx.split`.
      steps: number of Euler steps.
      shift: time shift, see `time_grid`.
      sharder: spreads the work over its mesh, on which the parameters must lie.
      tile: see `sample`.
      overview: see `sample`.

    Returns:
      A jitted function of (parameters, branches, noise, weights); see `sample`.
    """

    @jax.jit
    def run(parameters, branches, noise, weights):
        model = nnx.merge(graph, parameters)
        spread = constraints(sharder.activation) if sharder else contextlib.nullcontext()
        with spread:
            times = time_grid(steps, shift)
            return sample(model, branches, noise, weights, times, tile, overview)

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
