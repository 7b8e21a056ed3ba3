"""Sampling the frames of a sequence, with what the model decided in the frames before.

The last step of the flow ends on the model's prediction.  The head `bands` makes that of the
sources' pixels and of the values of cells, which come from the transformer.  Here the values of
the tiles are blended, instead of their images, and one program fuses the whole frame with them: the
transformer is needed only for tiles whose sources have changed (`decision_reuse.py`).
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.flow.guided_velocity import SAMPLING_T_EPS, decide, target_bias_by_rows
from ditfuse_jax.flow.path import to_velocity
from ditfuse_jax.model import Condition, EncodedCondition
from ditfuse_jax.model.network import Network
from ditfuse_jax.sample.decision_reuse import BLOCK, block_means
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.resize import resize_linear
from ditfuse_jax.sample.structure import Structure, config_of
from ditfuse_jax.sample.tiled import TiledSampler, cut_condition, enlarge
from ditfuse_jax.sample.tiles import Tiles, global_size, plan_tiles

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse

_RUNNING = 4  # at most so many groups of tiles are computed at the same time
_SHARE = 0.5  # of the tiles: for more, the whole frame's sources are embedded together
_Part = tuple[np.ndarray, Condition, EncodedCondition]
MAX_PIXELS = 2**21  # the program for a frame takes 200 bytes for each


def decides_by_cells(structure: Structure, sampling: SamplingConfig) -> bool:
    """Whether `SequenceSampler` computes what a model samples with these settings.

    That is one step at full size, without guidance, of an unchanged model with the head `bands`.
    """
    if not isinstance(structure, Network) or structure.lora or structure.quantize:
        return False
    model, guidance = structure.model, sampling.guidance
    return (
        model.head == "bands"
        and not model.adjustments
        and model.patch_size % BLOCK == 0
        and sampling.tile % model.patch_size == 0
        and sampling.solver == "euler"
        and sampling.steps == sampling.global_steps + 1
        and guidance.rule.plain
        and len(guidance.branches) == 1
    )


class SequenceSampler:
    """Samples frames one after the other; see the module."""

    def __init__(self, tiled: TiledSampler):
        """Creates a sampler; `tiled` samples single images with the same settings."""
        self._tiled = tiled

    def fits(self, branches: Condition) -> bool:
        """Whether frames like this one can be sampled: not too large, with all their images."""
        height, width = branches.images.shape[-3:-1]
        small = height * width <= MAX_PIXELS and len(branches.tokens[0]) == 1
        return small and bool(np.all(branches.image_valid))

    def __call__(
        self,
        parameters: Any,
        branches: Condition,
        noise: np.ndarray,
        weights: np.ndarray,
        times: np.ndarray,
        reuse: EncodingReuse,
    ) -> jax.Array:
        """Samples one frame.

        Args:
          parameters: the model's.
          branches: the condition of one branch and one row, every leaf (1, 1, ...).
          noise: (1, H, W, 3) standard normal, the same for all frames.
          weights: (1,) of the branch.
          times: (S + 1,) from 0 to 1; all steps but the last one are global.
          reuse: what is kept from earlier frames.

        Returns:
          (1, H, W, 3) pixels in about [-1, 1], which may still be computed in the background.
        """
        images: Any = np.asarray(branches.images)[0, 0]
        means, key = block_means(images), branches.tokens.tobytes()
        tiles, groups = self._plan(parameters, (images.shape[1], images.shape[2]))
        shown = [
            np.concatenate([_cut_means(means, one, tiles) for one in group]) for group in groups
        ]
        names = [(tiles.size, k) for k in range(len(groups))]
        kept = reuse.decisions
        values = [kept.find(name, k, shown[k], key) for k, name in enumerate(names)]
        missing = [k for k, value in enumerate(values) if value is None]
        if missing:
            bias = self._bias_of_all(parameters, branches, len(missing) / len(groups))
            x = self._start(parameters, branches, noise, weights, times, means, reuse)
            parts = self._encoded(
                parameters, branches, weights, tiles, groups, missing, reuse, bias
            )
            decided = self._decided(parameters, parts, x, times[-2], tiles)
            for k, value in zip(missing, decided, strict=True):
                values[k] = value
                kept.keep(names[k], shown[k], key, value)
        return self._compose(parameters, _blended(values, tiles), images)

    def _plan(self, parameters: Any, size: tuple[int, int]) -> tuple[Tiles, list[np.ndarray]]:
        """Returns the tiles of an image, and the corners of those that are computed together."""
        patch = config_of(self._tiled.structure, parameters).patch_size
        tiles = plan_tiles(size, self._tiled.tile, patch)
        # One by one: in larger groups, tiles that have not changed would be decided anew too.
        return tiles, self._tiled.groups(tiles, 1, on_cpu=1)

    def _encoded(
        self,
        parameters: Any,
        branches: Condition,
        weights: np.ndarray,
        tiles: Tiles,
        groups: Sequence[np.ndarray],
        chosen: Sequence[int],
        reuse: EncodingReuse,
        bias: Any = None,
    ) -> Iterator[_Part]:
        """Yields corners, condition and encoded condition of the chosen groups of tiles.

        `bias`: of the whole image, if it is known; see `_bias_of_all`.
        """
        known = None
        if bias is not None:
            patch = config_of(self._tiled.structure, parameters).patch_size
            known = np.asarray(bias).reshape(*(side // patch for side in tiles.size), -1)
            of_patches = _of_cells(tiles, patch)
        for k in chosen:
            cut = cut_condition(branches, groups[k], tiles)
            arguments = parameters, cut, weights, reuse, tiles.size, k, len(groups)
            if known is None:
                encoded = self._tiled.encoded(*arguments)
            else:
                rows = [of_patches.cut(known, corner) for corner in groups[k] // patch]
                own = np.stack(rows).reshape(len(rows), -1, known.shape[-1])
                encoded = self._tiled.encoded(*arguments, own)
            yield groups[k], cut, encoded

    def _bias_of_all(self, parameters: Any, branches: Condition, share: float) -> Any:
        """Returns the `target_bias` of the whole image if a large share of its tiles needs it."""
        if share < _SHARE:
            return None
        return self._bias(parameters, jax.tree.map(lambda leaf: leaf[0], branches))

    def _decided(
        self, parameters: Any, parts: Iterable[_Part], x: np.ndarray, t: Any, tiles: Tiles
    ) -> Iterator[np.ndarray]:
        """Yields the values of the cells (T, h, w, C) of each group of tiles, at x (1, H, W, 3)."""
        running: collections.deque[jax.Array] = collections.deque()
        for corners, cut, encoded in parts:
            rows = [tiles.cut(x, corner) for corner in corners]
            rows = rows[0] if len(rows) == 1 else np.concatenate(rows)
            running.append(self._decide(parameters, encoded, cut, rows, t))
            if len(running) == _RUNNING:
                yield np.asarray(running.popleft())
        yield from map(np.asarray, running)

    def _start(
        self,
        parameters: Any,
        branches: Condition,
        noise: np.ndarray,
        weights: np.ndarray,
        times: np.ndarray,
        means: np.ndarray,
        reuse: EncodingReuse,
    ) -> np.ndarray:
        """Returns the state (1, H, W, 3) before the last step: the result of the global steps."""
        size = noise.shape[1:3]
        if len(times) == 2:
            return noise
        patch = config_of(self._tiled.structure, parameters).patch_size
        small = global_size((size[0], size[1]), self._tiled.tile, patch)
        name, key = (size, "global"), branches.tokens.tobytes()
        found = reuse.decisions.find(name, 0, means, key)
        if found is not None:
            return found
        x = noise[:, : small[0], : small[1]]
        images: Any = resize_linear(np.asarray(branches.images), small)
        downscaled = branches._replace(images=images)
        tiles, groups = self._plan(parameters, small)
        everything = range(len(groups))
        parts = self._encoded(parameters, downscaled, weights, tiles, groups, everything, reuse)
        parts = list(parts)
        for t, following in itertools.pairwise(times):
            cells = _blended(list(self._decided(parameters, parts, x, t, tiles)), tiles)
            x = np.asarray(self._step(parameters, cells, images[0, 0], x, t, following))
        state = enlarge(x, noise, times[-2])
        reuse.decisions.keep(name, means, key, state)
        return state

    @functools.cached_property
    def _decide(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(decide)

    @functools.cached_property
    def _bias(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(target_bias_by_rows, quick=False)

    @functools.cached_property
    def _step(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(_step, quick=False)

    @functools.cached_property
    def _compose(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(_compose, quick=False)  # else half as slow again


def _compose(model: "DiTFuse", cells: jax.Array, sources: jax.Array) -> jax.Array:
    from ditfuse_jax.model.heads.bands import BandsHead  # imports Flax
    from ditfuse_jax.model.heads.bands_planes import compose

    assert isinstance(model.head, BandsHead)
    return compose(model.head, cells, sources)[None]


def _step(
    model: "DiTFuse",
    cells: jax.Array,
    sources: jax.Array,
    x: jax.Array,
    t: jax.Array,
    following: jax.Array,
) -> jax.Array:
    """Returns the state (1, H, W, 3) at the time `following`, after Euler's step from x at t."""
    prediction = _compose(model, cells, sources)
    kind = model.config.prediction
    return x + (following - t) * to_velocity(kind, prediction, x, t, SAMPLING_T_EPS)


def _blended(values: Sequence[np.ndarray], tiles: Tiles) -> np.ndarray:
    """Returns the cells (h, w, C) of an image, of those of its groups of tiles, (T, h, w, C)."""
    cells = np.concatenate(values)[: len(tiles.corners)]  # the last group is filled up
    return _of_cells(tiles, tiles.tile[0] // cells.shape[1]).blend(cells)


def _of_cells(tiles: Tiles, side: int) -> Tiles:
    """The tiles in an image that has one pixel for each cell of `side` pixels."""

    def smaller(numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number // side for number in numbers)

    height, width = smaller(tiles.size)
    rows, columns = smaller(tiles.tile)
    return Tiles((height, width), (rows, columns), smaller(tiles.rows), smaller(tiles.columns))


def _cut_means(means: np.ndarray, corner: np.ndarray, tiles: Tiles) -> np.ndarray:
    """The means (n, h, w, C) of a tile's sources."""
    (row, column), (height, width) = corner // BLOCK, tiles.tile
    return means[:, row : row + height // BLOCK, column : column + width // BLOCK]
