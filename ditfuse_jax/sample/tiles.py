"""Large images in overlapping tiles whose velocities are blended at every step.

A model sees each tile as it saw its training crops, whatever the image's size, and since all tiles
move the same image a little at every step, they agree where they overlap (Bar-Tal et al. 2023,
"MultiDiffusion").
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

_OVERLAP = 0.25  # of a tile's side, at least


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Where tiles lie in an image.

    Attributes:
      size: (height, width) of the image.
      tile: (height, width) of each tile.
      rows: first rows of the tiles.
      columns: first columns; every row of tiles has them all.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def corners(self) -> np.ndarray:
        """(T, 2) first row and column of every tile."""
        return np.array([(row, column) for row in self.rows for column in self.columns], np.int32)

    def cut(self, images: jax.Array, corner: jax.Array) -> jax.Array:
        """The tile of (..., H, W, C) at a corner."""
        lead, channels = images.shape[:-3], images.shape[-1]
        start = (*(0 for _ in lead), corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(images, start, (*lead, *self.tile, channels))

    def blend(self, tiles: jax.Array) -> jax.Array:
        """Tiles (T, ..., h, w, C) to one image (..., H, W, C): means weighted by `window`."""
        window = jnp.asarray(self.window)[..., None]
        image = jnp.zeros((*tiles.shape[1:-3], *self.size, tiles.shape[-1]), tiles.dtype)
        lead = (0,) * (image.ndim - 3)

        def add(image: jax.Array, placed: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            tile, corner = placed
            there = self.cut(image, corner) + window * tile
            start = (*lead, corner[0], corner[1], 0)
            return jax.lax.dynamic_update_slice(image, there, start), None

        image, _ = jax.lax.scan(add, image, (tiles, jnp.asarray(self.corners)))
        return image / jnp.asarray(self._weight())[..., None]

    @property
    def window(self) -> np.ndarray:
        """(h, w) weights of a tile's pixels: less towards its borders, never zero."""
        return np.outer(*(_ramp(side) for side in self.tile)).astype(np.float32)

    def _weight(self) -> np.ndarray:
        """(H, W) sum of the windows."""
        total = np.zeros(self.size, np.float32)
        height, width = self.tile
        for row, column in self.corners:
            total[row : row + height, column : column + width] += self.window
        return total


def plan_tiles(size: tuple[int, int], side: int, multiple: int) -> Tiles:
    """Covers an image with as few tiles as overlap by a quarter of their side.

    Args:
      size: (height, width) of the image, multiples of `multiple`.
      side: of the tiles, a multiple of `multiple`; an image may be smaller.
      multiple: all tiles begin at multiples of it, so that their patches lie alike.
    """
    tile = min(size[0], side), min(size[1], side)
    rows, columns = (_starts(*sides, multiple) for sides in zip(size, tile, strict=True))
    return Tiles(size, tile, rows, columns)


def global_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """The size at which a large image is looked at as a whole: its shorter side is one tile's.

    Args:
      size: (height, width) of the image.
      side: of the tiles; an image whose shorter side is no longer is its own overview.
      multiple: of the result's sides.
    """
    scale = min(1.0, side / min(size))
    height, width = (max(multiple, round(length * scale / multiple) * multiple) for length in size)
    return min(height, size[0]), min(width, size[1])


def _starts(length: int, tile: int, multiple: int) -> tuple[int, ...]:
    step = tile * (1 - _OVERLAP)
    count = 1 + math.ceil((length - tile) / step)
    places = np.linspace(0, (length - tile) // multiple, count)
    return tuple(int(place) * multiple for place in np.rint(places))


def _ramp(side: int) -> np.ndarray:
    rise = (np.arange(side) + 0.5) / (side * _OVERLAP)
    return np.minimum(1, np.minimum(rise, rise[::-1]))
