"""Sampling the frames of a sequence, with what the model decided in the frames before.

The last step of the flow ends on the model's prediction.  The head `bands` makes that of the
sources' pixels and of the values of cells, which come from the transformer.  Here the values of
the tiles are blended, instead of their images, and one program fuses the whole frame with them: the
transformer is needed only for tiles whose sources have changed (`decision_reuse.py`).
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.flow.guided_velocity import decide
from ditfuse_jax.model import Condition
from ditfuse_jax.model.network import Network
from ditfuse_jax.sample.decision_reuse import BLOCK, block_means
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.resize import resize_linear
from ditfuse_jax.sample.structure import Structure, config_of
from ditfuse_jax.sample.tiled import TiledSampler, cut_condition, enlarge
from ditfuse_jax.sample.tiles import Tiles, global_size, plan_tiles

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse

_MAX_PIXELS = 2**21  # the program for a frame takes 200 bytes for each


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
        small = height * width <= _MAX_PIXELS and len(branches.tokens[0]) == 1
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
        tiled, kept = self._tiled, reuse.decisions
        images: Any = np.asarray(branches.images)[0, 0]
        means = block_means(images)
        key = branches.tokens.tobytes()
        size = (images.shape[1], images.shape[2])
        tiles = plan_tiles(size, tiled.tile, config_of(tiled.structure, parameters).patch_size)
        groups = tiled.groups(tiles, 1)

        @functools.cache
        def start() -> np.ndarray:
            return self._start(parameters, branches, noise, weights, times, means, reuse)

        decided = []
        for k, corners in enumerate(groups):
            shown = np.concatenate([_cut_means(means, corner, tiles) for corner in corners])
            values = kept.find((size, k), k, shown, key)
            if values is None:
                cut = cut_condition(branches, corners, tiles)
                encoded = tiled.encoded(parameters, cut, weights, reuse, size, k, len(groups))
                x = np.concatenate([tiles.cut(start(), corner) for corner in corners])
                values = np.asarray(self._decide(parameters, encoded, cut, x, times[-2]))
                kept.keep((size, k), shown, key, values)
            decided.append(values)
        cells = np.concatenate(decided)[: len(tiles.corners)]  # the last group is filled up
        blended = _of_cells(tiles, tiles.tile[0] // cells.shape[1]).blend(cells)
        return self._compose(parameters, blended, images)

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
        whole = self._tiled(parameters, downscaled, x, weights, times, reuse=reuse)
        state = enlarge(whole, noise, times[-2])
        reuse.decisions.keep(name, means, key, state)
        return state

    @functools.cached_property
    def _decide(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(decide)

    @functools.cached_property
    def _compose(self) -> Callable[..., jax.Array]:
        return self._tiled.compiled(_compose)


def _compose(model: "DiTFuse", cells: jax.Array, sources: jax.Array) -> jax.Array:
    from ditfuse_jax.model.heads.bands import BandsHead  # imports Flax
    from ditfuse_jax.model.heads.bands_planes import compose

    assert isinstance(model.head, BandsHead)
    return compose(model.head, cells, sources)[None]


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
