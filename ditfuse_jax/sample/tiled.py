"""Sampling large images in tiles, by programs that know tiles and not the images' sizes.

What takes long to compile, the model, is compiled for a few tiles at a time; what depends on an
image's size, cutting, blending and resizing, compiles quickly.  So the first image takes seconds,
its global steps add few, and an image of another size takes hardly longer than one of a known size.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.flow import Solver, interpolate
from ditfuse_jax.model import Condition, DiTFuse, EncodedCondition
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.parallel import Sharder
from ditfuse_jax.sample.guided import encode, guided_velocity
from ditfuse_jax.sample.tiles import Tiles, global_size, plan_tiles

_KEPT_BYTES = 2**31  # of the tiles' keys and values
_ACCELERATORS_TILES = 8
_CPUS_TILES = 2  # as many as the overview of a 4:3 image has: few are computed for nothing


@dataclasses.dataclass(frozen=True)
class TiledSampler:
    """Integrates the guided flow of images larger than a tile.

    What a scene is, and how bright it shall be, is settled in the first steps and needs more of it
    than one tile shows.  For its overview the image is sampled at a size at which its shorter side
    is one tile's (along the longer one it may still take several), to the end; enlarged again, with
    noise mixed in as at the first step left, it is where the large image's path sets in.

    Attributes:
      graph: the model's graph definition, from `nnx.split`.
      tile: side of the tiles in pixels.
      solver: see `flow.solvers`.
      sharder: spreads the work over its mesh, on which the parameters must lie.
    """

    graph: nnx.GraphDef
    tile: int
    solver: Solver
    sharder: Sharder | None = None

    def __call__(
        self,
        parameters: Any,
        branches: Condition,
        noise: jax.Array,
        weights: jax.Array,
        times: np.ndarray,
        global_steps: int = 0,
    ) -> jax.Array:
        """Samples.

        Args:
          parameters: the model's.
          branches: conditions of the R guidance branches, every leaf (R, B, ...).
          noise: (B, H, W, C) standard normal.
          weights: (R,) share of each branch; see `Guidance.weights`.
          times: (S + 1,) from 0 to 1, a NumPy array.
          global_steps: how many first steps are not taken, since they are done on the whole of the
            image in small.  If its shorter side is no longer than a tile it takes them all.

        Returns:
          (B, H, W, C): pixels in about [-1, 1], or latents.
        """
        height, width = noise.shape[1:3]
        config = nnx.merge(self.graph, parameters).config
        side = self.tile // config.latent_downsampling
        x = noise
        if global_steps and min(height, width) > side:
            small = global_size((height, width), side, config.patch_size)
            seen = branches._replace(images=_resize(branches.images, small))
            start = _first_rows_and_columns(noise, small)
            whole = self(parameters, seen, start, weights, times)
            x, times = _set_in(whole, noise, times[global_steps]), times[global_steps:]
        tiles = plan_tiles((height, width), side, config.patch_size)
        groups = self._groups(tiles)
        conditions = [_cut_condition(branches, group, tiles) for group in groups]
        kept: list[EncodedCondition | None] = [None] * len(groups)

        def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
            parts = []
            for k, (group, condition) in enumerate(zip(groups, conditions, strict=True)):
                encoded = kept[k] or self._encode(parameters, condition, weights)
                # Most solvers evaluate the velocity once in a single step.
                if len(times) > 2 and len(groups) * _bytes(encoded) <= _KEPT_BYTES:
                    kept[k] = encoded
                rows = _cut_rows(x, group, tiles)
                parts.append(self._velocity(parameters, encoded, condition, rows, t, weights))
            return _blend(parts, x.shape[0], tiles)

        return self.solver(velocity, x, times)

    def _groups(self, tiles: Tiles) -> list[np.ndarray]:
        """Corners (T, 2) of tiles that are computed together; the last group repeats its last."""
        together = _CPUS_TILES if self._on_cpu else _ACCELERATORS_TILES
        padding = -len(tiles.corners) % together
        corners = np.pad(tiles.corners, ((0, padding), (0, 0)), mode="edge")
        return list(corners.reshape(-1, together, 2))

    @property
    def _on_cpu(self) -> bool:
        if self.sharder is None:
            return jax.default_backend() == "cpu"
        return self.sharder.mesh.devices.flat[0].platform == "cpu"

    @functools.cached_property
    def _encode(self) -> Callable[[Any, Condition, jax.Array], EncodedCondition]:
        def run(model: DiTFuse, condition: Condition, weights: jax.Array) -> EncodedCondition:
            return encode(model, condition, weights.shape[0])

        return self._compiled(run)

    @functools.cached_property
    def _velocity(self) -> Callable[..., jax.Array]:
        return self._compiled(guided_velocity)

    def _compiled(self, function: Callable) -> Callable:
        """`function(model, ...)` as a program that takes the model's parameters."""

        @jax.jit
        def run(parameters, *arguments):
            spread = logical_axis_rules(self.sharder.activation) if self.sharder else None
            with spread or contextlib.nullcontext():
                return function(nnx.merge(self.graph, parameters), *arguments)

        return run


def _bytes(encoded: EncodedCondition) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(encoded))


@functools.partial(jax.jit, static_argnums=2)
def _cut_condition(branches: Condition, corners: np.ndarray, tiles: Tiles) -> Condition:
    """Leaves (R, B, ...) of an image to leaves (R * T * B, ...) of its tiles."""

    def rows(x: jax.Array) -> jax.Array:  # (R, T, B, ...)
        return x.reshape(-1, *x.shape[3:])

    def repeated(x: jax.Array) -> jax.Array:
        together = len(corners)
        return rows(jnp.broadcast_to(x[:, None], (x.shape[0], together, *x.shape[1:])))

    images = jax.vmap(lambda corner: tiles.cut(branches.images, corner), out_axes=1)(corners)
    return Condition(
        repeated(branches.tokens),
        repeated(branches.token_valid),
        rows(images),
        repeated(branches.image_valid),
    )


@functools.partial(jax.jit, static_argnums=2)
def _cut_rows(x: jax.Array, corners: np.ndarray, tiles: Tiles) -> jax.Array:
    """(B, H, W, C) to (T * B, h, w, C)."""
    parts = jax.vmap(lambda corner: tiles.cut(x, corner))(corners)
    return parts.reshape(-1, *parts.shape[2:])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _blend(parts: list[jax.Array], batch: int, tiles: Tiles) -> jax.Array:
    """Velocities of the tiles, (T * B, h, w, C) per group, to one of the image (B, H, W, C)."""
    velocities = jnp.concatenate(parts).reshape(-1, batch, *parts[0].shape[1:])
    return tiles.blend(velocities[: len(tiles.corners)])


@functools.partial(jax.jit, static_argnums=1)
def _first_rows_and_columns(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    return x[..., : size[0], : size[1], :]


@functools.partial(jax.jit, static_argnums=1)
def _resize(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    shape = (*images.shape[:-3], *size, images.shape[-1])
    return jax.image.resize(images, shape, "linear")


@jax.jit
def _set_in(small: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """The small result, enlarged, with noise mixed in as at time t."""
    x = _resize(small, noise.shape[1:3])
    return interpolate(x, noise, jnp.broadcast_to(t, noise.shape[:1]))
