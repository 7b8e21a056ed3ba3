"""Sampling large images in tiles, with programs whose shapes depend on the tile only.

The model, which takes long to compile, is compiled for a few tiles at a time.  What depends on the
image's size, cutting, blending and resizing, compiles quickly.  An image of a new size therefore
takes hardly longer than one of a known size, and global steps need no further program of the model.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx

from ditfuse_jax.flow import GuidanceRule, Solver, interpolate
from ditfuse_jax.flow.guidance import PLAIN
from ditfuse_jax.model import Condition, DiTFuse, EncodedCondition
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.sample.guided_velocity import branch_velocities, encode
from ditfuse_jax.sample.tiles import Tiles, global_size, plan_tiles

_MAX_CACHED_BYTES = 2**31  # of the tiles' keys and values
_SLOW = 3.0  # seconds before a progress bar appears
_TILES_PER_GROUP = 8
_TILES_PER_GROUP_CPU = 2  # the downscaled 4:3 image of the global steps has two tiles


@dataclasses.dataclass(frozen=True)
class TiledSampler:
    """Integrates the guided flow of images larger than a tile.

    The first steps decide about a scene's content and brightness and need more context than one
    tile shows.  Global steps therefore sample the image downscaled, so that its shorter side is one
    tile, from noise to the end; the result is enlarged, noise is mixed in for the time of the first
    remaining step, and the large image continues from there.

    Attributes:
      graph: the model's graph definition, from `nnx.split`.
      tile: side of the tiles in pixels.
      solver: see `flow.solvers`.
      partitioner: distributes the work over its mesh, on which the parameters must be.
      rule: how the guidance branches are combined, for the whole image at once.
    """

    graph: nnx.GraphDef
    tile: int
    solver: Solver
    partitioner: Partitioner | None = None
    rule: GuidanceRule = PLAIN

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
          weights: (R,) one per branch; see `Guidance.weights`.
          times: (S + 1,) from 0 to 1, a NumPy array.
          global_steps: how many of the first steps are replaced by sampling the downscaled image;
            none are if the image's shorter side is no longer than a tile.

        Returns:
          (B, H, W, C): pixels in about [-1, 1], or latents.
        """
        height, width = noise.shape[1:3]
        config = nnx.merge(self.graph, parameters).config
        side = self.tile // config.latent_downsampling
        x = noise
        if global_steps and min(height, width) > side:
            small = global_size((height, width), side, config.patch_size)
            downscaled = branches._replace(images=_resize(branches.images, small))
            start = _crop(noise, small)
            whole = self(parameters, downscaled, start, weights, times)
            x, times = _enlarge(whole, noise, times[global_steps]), times[global_steps:]
        tiles = plan_tiles((height, width), side, config.patch_size)
        groups = self._groups(tiles)
        cache: list[EncodedCondition | None] = [None] * len(groups)
        average = self.rule.start(len(weights), x)

        def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
            nonlocal average
            sums = jnp.zeros((len(weights), *x.shape), x.dtype)
            for k, (group, real) in enumerate(groups):
                condition = _cut_condition(branches, group, tiles)
                encoded = cache[k] or self._encode(parameters, condition, weights)
                # A single step usually needs the keys and values only once.
                if len(times) > 2 and len(groups) * _bytes(encoded) <= _MAX_CACHED_BYTES:
                    cache[k] = encoded
                rows = _cut_rows(x, group, tiles)
                part = self._velocities(parameters, encoded, condition, rows, t)
                sums = _add(sums, part, group, real, tiles)
                # Groups that wait to be computed would hold their tiles in memory.
                sums.block_until_ready()
                bar.update(int(real.sum()))
            velocities = _divide(sums, tiles)
            guided, average = _guided(self.rule, velocities, weights, x, t, average)
            return guided

        with tqdm.tqdm(unit="tile", desc="tiles", delay=_SLOW, leave=False, disable=None) as bar:
            return self.solver(velocity, x, times)

    def _groups(self, tiles: Tiles) -> list[tuple[np.ndarray, np.ndarray]]:
        """Corners (T, 2) of the tiles that are computed together, and which of them count, (T,).

        All groups have the same size; the last one is filled up with copies of its last tile, which
        do not count.
        """
        size = _TILES_PER_GROUP_CPU if self._on_cpu else _TILES_PER_GROUP
        padding = -len(tiles.corners) % size
        corners = np.pad(tiles.corners, ((0, padding), (0, 0)), mode="edge")
        real = np.arange(len(corners)) < len(tiles.corners)
        return list(zip(corners.reshape(-1, size, 2), real.reshape(-1, size), strict=True))

    @property
    def _on_cpu(self) -> bool:
        if self.partitioner is None:
            return jax.default_backend() == "cpu"
        return self.partitioner.mesh.devices.flat[0].platform == "cpu"

    @functools.cached_property
    def _encode(self) -> Callable[[Any, Condition, jax.Array], EncodedCondition]:
        def run(model: DiTFuse, condition: Condition, weights: jax.Array) -> EncodedCondition:
            return encode(model, condition, weights.shape[0])

        return self._compiled(run)

    @functools.cached_property
    def _velocities(self) -> Callable[..., jax.Array]:
        return self._compiled(branch_velocities)

    def _compiled(self, function: Callable) -> Callable:
        """Jits `function(model, ...)` as a function of the model's parameters."""

        @jax.jit
        def run(parameters, *arguments):
            spread = logical_axis_rules(self.partitioner.activation) if self.partitioner else None
            with spread or contextlib.nullcontext():
                return function(nnx.merge(self.graph, parameters), *arguments)

        return run


def _bytes(encoded: EncodedCondition) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(encoded))


@functools.partial(jax.jit, static_argnums=2)
def _cut_condition(branches: Condition, corners: np.ndarray, tiles: Tiles) -> Condition:
    """Cuts the condition of an image, leaves (R, B, ...), into tiles, leaves (R * T * B, ...)."""

    def rows(x: jax.Array) -> jax.Array:  # (R, T, B, ...)
        return x.reshape(-1, *x.shape[3:])

    def repeated(x: jax.Array) -> jax.Array:
        return rows(jnp.broadcast_to(x[:, None], (x.shape[0], len(corners), *x.shape[1:])))

    images = jax.vmap(lambda corner: tiles.cut(branches.images, corner), out_axes=1)(corners)
    return Condition(
        repeated(branches.tokens),
        repeated(branches.token_valid),
        rows(images),
        repeated(branches.image_valid),
    )


@functools.partial(jax.jit, static_argnums=2)
def _cut_rows(x: jax.Array, corners: np.ndarray, tiles: Tiles) -> jax.Array:
    """Cuts (B, H, W, C) into tiles (T * B, h, w, C)."""
    parts = jax.vmap(lambda corner: tiles.cut(x, corner))(corners)
    return parts.reshape(-1, *parts.shape[2:])


@functools.partial(jax.jit, static_argnums=4, donate_argnums=0)
def _add(
    sums: jax.Array, part: jax.Array, corners: np.ndarray, real: np.ndarray, tiles: Tiles
) -> jax.Array:
    """Adds weighted velocities of tiles, (R, T * B, h, w, C), to the image's, (R, B, H, W, C).

    Branches are blended one by one, so that guidance may depend on the whole image.
    """
    velocities = part.reshape(part.shape[0], len(corners), sums.shape[1], *part.shape[2:])
    velocities = jnp.moveaxis(velocities, 1, 0) * real[:, None, None, None, None, None]
    return tiles.add(sums, velocities, corners)


@functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
def _divide(sums: jax.Array, tiles: Tiles) -> jax.Array:
    """Divides the sum of weighted velocities by the sum of the weights."""
    rows, columns = tiles.weights
    return sums / (rows[:, None] * columns)[..., None]


@functools.partial(jax.jit, static_argnums=0)
def _guided(
    rule: GuidanceRule,
    velocities: jax.Array,
    weights: jax.Array,
    x: jax.Array,
    t: jax.Array,
    average: jax.Array | None,
) -> tuple[jax.Array, jax.Array | None]:
    return rule(velocities, weights, x, t, average)


@functools.partial(jax.jit, static_argnums=1)
def _crop(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    return x[..., : size[0], : size[1], :]


@functools.partial(jax.jit, static_argnums=1)
def _resize(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    shape = (*images.shape[:-3], *size, images.shape[-1])
    return jax.image.resize(images, shape, "linear")


@jax.jit
def _enlarge(small: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """Resizes a result to the size of the noise and mixes the noise in for time t."""
    x = _resize(small, noise.shape[1:3])
    return interpolate(x, noise, jnp.broadcast_to(t, noise.shape[:1]))
