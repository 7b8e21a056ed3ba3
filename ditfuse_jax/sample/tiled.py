"""Sampling large images in tiles, with programs whose shapes depend on the tile only.

The model is compiled for a few tiles at a time.  What depends on the image's size, cutting,
blending, guidance and resizing, is computed in NumPy.  An image of a new size therefore needs no
new program and no memory that stays in use, and global steps need none either.
"""

import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import tqdm

from ditfuse_jax.ahead import one_ahead
from ditfuse_jax.compat import with_settings_of_this_thread
from ditfuse_jax.flow import GuidanceRule, Solver, interpolate
from ditfuse_jax.flow.guidance import PLAIN
from ditfuse_jax.flow.guided_velocity import branch_velocities, encode, encode_keys, target_bias
from ditfuse_jax.model import Condition, EncodedCondition
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.model.network import Network
from ditfuse_jax.parallel import Partitioner, distribute, gather
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.resize import resize_linear
from ditfuse_jax.sample.structure import Structure, config_of, merge
from ditfuse_jax.sample.tiles import Tiles, global_size, plan_tiles
from ditfuse_jax.xla.cpu_options import quick_options
from ditfuse_jax.xla.kept_programs import KeptProgram

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse

_MAX_CACHED_BYTES = 2**31  # of the tiles' keys and values
_SLOW = 3.0  # seconds before a progress bar appears
_TILES_PER_GROUP = 8
_TILES_PER_GROUP_CPU = 2  # the downscaled 4:3 image of the global steps has two tiles
_Part = tuple[jax.Array, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TiledSampler:
    """Integrates the guided flow of images larger than a tile.

    The first steps decide about a scene's content and brightness and need more context than one
    tile shows.  Global steps therefore sample the image downscaled, so that its shorter side is one
    tile, from noise to the end; the result is enlarged, noise is mixed in for the time of the first
    remaining step, and the large image continues from there.

    Attributes:
      structure: of the model.
      tile: side of the tiles in pixels.
      solver: see `flow.solvers`.
      partitioner: distributes the work over its mesh, on which the parameters must be.
      rule: how the guidance branches are combined, for the whole image at once.
    """

    structure: Structure
    tile: int
    solver: Solver
    partitioner: Partitioner | None = None
    rule: GuidanceRule = PLAIN

    def __call__(
        self,
        parameters: Any,
        branches: Any,
        noise: np.ndarray,
        weights: Any,
        times: np.ndarray,
        global_steps: int = 0,
        reuse: EncodingReuse | None = None,
    ) -> np.ndarray:
        """Samples.  Arrays other than the parameters are NumPy's, equal in all processes.

        Args:
          parameters: the model's.
          branches: conditions of the R guidance branches, every leaf (R, B, ...).
          noise: (B, H, W, C) standard normal.
          weights: (R,) one per branch; see `Guidance.weights`.
          times: (S + 1,) from 0 to 1.
          global_steps: how many of the first steps are replaced by sampling the downscaled image;
            none are if the image's shorter side is no longer than a tile.
          reuse: of a sequence, what is kept from its earlier frames; without a partitioner only.

        Returns:
          (B, H, W, C): pixels in about [-1, 1], or latents.
        """
        height, width = noise.shape[1:3]
        config = config_of(self.structure, parameters)
        side = self.tile // config.latent_downsampling
        x = noise
        if global_steps and min(height, width) > side:
            small = global_size((height, width), side, config.patch_size)
            downscaled = branches._replace(images=resize_linear(branches.images, small))
            start = noise[:, : small[0], : small[1]]
            whole = self(parameters, downscaled, start, weights, times, reuse=reuse)
            x, times = enlarge(whole, noise, times[global_steps]), times[global_steps:]
        tiles = plan_tiles((height, width), side, config.patch_size)
        groups = self.groups(tiles, len(noise))
        cache: list[EncodedCondition | None] = [None] * len(groups)
        average = self.rule.start(len(weights), x)

        def place(rows: Any) -> Any:
            return jax.tree.map(lambda array: put(array, self.partitioner, 0), rows)

        def parts(x: np.ndarray, t: Any) -> Iterator[_Part]:
            """Velocities (R, T * B, h, w, C) and corners of each group."""
            for k, corners in enumerate(groups):
                cut = cut_condition(branches, corners, tiles)
                condition = place(cut)
                encoded = cache[k]
                if encoded is None:
                    encoded = self.encoded(
                        parameters, condition, weights, reuse, tiles.size, k, len(groups)
                    )
                # A single step usually needs the keys and values only once.
                if len(times) > 2 and len(groups) * _bytes(encoded) <= _MAX_CACHED_BYTES:
                    cache[k] = encoded
                rows = place(_cut_rows(x, corners, tiles))
                yield self._velocities(parameters, encoded, condition, rows, t), corners

        def velocity(x: Any, t: Any) -> np.ndarray:
            nonlocal average
            x = np.asarray(x)
            sums = np.zeros((len(weights), *x.shape), x.dtype)
            done = 0
            for part, corners in one_ahead(parts(x, t)):  # devices compute while we blend
                real = min(len(corners), len(tiles.corners) - done)  # the others fill up the group
                _add(sums, fetch(part, self.partitioner), corners[:real], tiles)
                done += real
                bar.update(real)
            tiles.divide(sums)
            guided, average = self.rule(sums, weights, x, t, average)
            return guided

        with tqdm.tqdm(unit="tile", desc="tiles", delay=_SLOW, leave=False, disable=None) as bar:
            return np.asarray(self.solver(velocity, x, times))

    def prepare(
        self, parameters: Any, branches: Any, noise: Any, weights: Any, times: np.ndarray
    ) -> None:
        """Reads or compiles, in another thread, what a call with such arguments computes with.

        Only the shapes and types of the arguments are used; see `__call__`.
        """
        encode, velocities = self._encode, self._velocities
        if not isinstance(encode, KeptProgram) or not isinstance(velocities, KeptProgram):
            return
        config = config_of(self.structure, parameters)
        side = self.tile // config.latent_downsampling
        tiles = plan_tiles(noise.shape[1:3], side, config.patch_size)
        corners = self.groups(tiles, len(noise))[0]
        condition = cut_condition(branches, corners, tiles)
        rows = _cut_rows(noise, corners, tiles)

        def run() -> None:
            with contextlib.suppress(Exception):  # the call meets it, too
                encoded = encode.prepare(parameters, condition, weights)
                if encoded is not None:
                    velocities.prepare(parameters, encoded, condition, rows, times[0])

        target = with_settings_of_this_thread(run)  # the call computes with them
        threading.Thread(target=target, name="programs").start()

    def encoded(
        self,
        parameters: Any,
        condition: Condition,
        weights: Any,
        reuse: EncodingReuse | None,
        size: tuple[int, int],
        group: int,
        groups: int,
        target_bias: np.ndarray | None = None,
    ) -> EncodedCondition:
        """Encodes one of an image's groups of tiles, or takes what was kept of it.

        `target_bias`: of these tiles, if it is known already.
        """
        before = None if reuse is None else reuse.find(size, group, condition)
        if before is not None:
            bias: Any = target_bias
            if bias is None:
                bias = self._target_bias(parameters, condition)
            return before._replace(target_bias=bias)
        if target_bias is None:
            encoded = self._encode(parameters, condition, weights)
        else:
            encoded = self._encode_keys(parameters, condition, target_bias, weights)
        if reuse is not None:
            reuse.keep(size, group, condition, encoded, groups)
        return encoded

    def groups(
        self, tiles: Tiles, rows: int, on_cpu: int = _TILES_PER_GROUP_CPU
    ) -> list[np.ndarray]:
        """Corners (T, 2) of the tiles that are computed together, for a batch of `rows` images.

        All groups have the same size, with which the devices of a mesh share their T * B rows
        evenly; the last one is filled up with copies of its last tile.  `on_cpu`: tiles of a group
        on a CPU.
        """
        size = on_cpu if self._on_cpu else _TILES_PER_GROUP
        if self.partitioner is not None:
            parts = self.partitioner.data_parallel
            size += -size % (parts // math.gcd(parts, rows))
        padding = -len(tiles.corners) % size
        corners = np.pad(tiles.corners, ((0, padding), (0, 0)), mode="edge")
        return list(corners.reshape(-1, size, 2))

    @property
    def _on_cpu(self) -> bool:
        if self.partitioner is None:
            return jax.default_backend() == "cpu"
        return self.partitioner.mesh.devices.flat[0].platform == "cpu"

    @functools.cached_property
    def _encode(self) -> Callable[[Any, Condition, jax.Array], EncodedCondition]:
        def run(model: "DiTFuse", condition: Condition, weights: jax.Array) -> EncodedCondition:
            return encode(model, condition, weights.shape[0])

        return self.compiled(run)

    @functools.cached_property
    def _encode_keys(self) -> Callable[..., EncodedCondition]:
        def run(
            model: "DiTFuse", condition: Condition, target_bias: jax.Array, weights: jax.Array
        ) -> EncodedCondition:
            return encode_keys(model, condition, target_bias, weights.shape[0])

        return self.compiled(run)

    @functools.cached_property
    def _target_bias(self) -> Callable[[Any, Condition], jax.Array]:
        return self.compiled(target_bias)

    @functools.cached_property
    def _velocities(self) -> Callable[..., jax.Array]:
        return self.compiled(branch_velocities)

    def compiled(self, function: Callable, *, quick: bool = True) -> Callable:
        """Jits `function(model, ...)` as a function of the model's parameters.

        On one device the compiled programs are kept on disk.

        Args:
          function: computes with the model.
          quick: compile it for CPUs in less time, see `xla/cpu_options.py`; for what runs as fast.
        """

        def run(parameters, *arguments):
            spread = logical_axis_rules(self.partitioner.activation) if self.partitioner else None
            with spread or contextlib.nullcontext():
                return function(merge(self.structure, parameters), *arguments)

        options = quick_options if quick and self._on_cpu else dict
        if self.partitioner or not isinstance(self.structure, Network):
            return jax.jit(run, compiler_options=options() or None)
        return KeptProgram(run, function.__qualname__, self.structure, options=options)


def put(array: Any, partitioner: Partitioner | None, axis: int | None = None) -> Any:
    """Puts an array, equal in all processes, on the devices, split along an axis if possible.

    Without a partitioner, a compiled function puts it on its device itself.
    """
    return array if partitioner is None else distribute(array, partitioner, axis)


def fetch(array: jax.Array, partitioner: Partitioner | None) -> np.ndarray:
    """Returns the whole array in every process."""
    return np.asarray(array) if partitioner is None else gather(array, partitioner)


def _bytes(encoded: EncodedCondition) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(encoded))


def cut_condition(branches: Any, corners: np.ndarray, tiles: Tiles) -> Condition:
    """Cuts the condition of an image, leaves (R, B, ...), into tiles, leaves (R * T * B, ...)."""

    def rows(x: np.ndarray) -> Any:  # (R, T, B, ...)
        return x.reshape(-1, *x.shape[3:])

    def repeated(x: np.ndarray) -> Any:
        return rows(np.repeat(x[:, None], len(corners), axis=1))

    cuts = [tiles.cut(branches.images, corner)[:, None] for corner in corners]
    images: Any = cuts[0] if len(cuts) == 1 else np.concatenate(cuts, axis=1)  # a view if it can be
    return Condition(
        repeated(branches.tokens),
        repeated(branches.token_valid),
        rows(images),
        repeated(branches.image_valid),
    )


def _cut_rows(x: np.ndarray, corners: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Cuts (B, H, W, C) into tiles (T * B, h, w, C)."""
    return np.concatenate([tiles.cut(x, corner) for corner in corners])


def _add(sums: np.ndarray, part: np.ndarray, corners: np.ndarray, tiles: Tiles) -> None:
    """Adds weighted velocities of tiles, (R, T * B, h, w, C), to the image's, (R, B, H, W, C).

    Branches are blended one by one, so that guidance may depend on the whole image.  Tiles beyond
    the corners are left out.
    """
    velocities = part.reshape(part.shape[0], -1, sums.shape[1], *part.shape[2:])
    tiles.add(sums, np.moveaxis(velocities, 1, 0)[: len(corners)], corners)


def enlarge(small: np.ndarray, noise: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Resizes a result to the size of the noise and mixes the noise in for time t."""
    x = resize_linear(small, noise.shape[1:3])
    return interpolate(x, noise, np.broadcast_to(t, noise.shape[:1]))
