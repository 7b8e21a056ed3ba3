"""Overlapping tiles of large images, whose velocities are blended at every step.

The model gets each tile at the size of its training crops, whatever the image's size.  Since the
blended velocity moves one common image, tiles agree where they overlap (Bar-Tal et al. 2023,
"MultiDiffusion").
"""

import dataclasses
import functools
import math

import numpy as np

_OVERLAP = 0.25  # of a tile's side, at least


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The positions of tiles in an image.

    Attributes:
      size: (height, width) of the image.
      tile: (height, width) of each tile.
      rows: first rows of the tiles.
      columns: first columns of the tiles; the corners are all pairs of a row and a column.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def corners(self) -> np.ndarray:
        """(T, 2) first row and column of every tile."""
        return np.array([(row, column) for row in self.rows for column in self.columns], np.int32)

    def cut(self, images: np.ndarray, corner: np.ndarray) -> np.ndarray:
        """Returns the tile (..., h, w, C) of images (..., H, W, C) at a corner, a view."""
        (row, column), (height, width) = corner, self.tile
        return images[..., row : row + height, column : column + width, :]

    def blend(self, tiles: np.ndarray) -> np.ndarray:
        """Returns the image (..., H, W, C) of tiles (T, ..., h, w, C), weighted by `window`."""
        image = np.zeros((*tiles.shape[1:-3], *self.size, tiles.shape[-1]), tiles.dtype)
        self.add(image, tiles, self.corners)
        self.divide(image)
        return image

    def add(self, image: np.ndarray, tiles: np.ndarray, corners: np.ndarray) -> None:
        """Adds tiles (T, ..., h, w, C), weighted by `window`, to an image (..., H, W, C)."""
        window = self.window[..., None]
        for tile, corner in zip(tiles, corners, strict=True):
            place = self.cut(image, corner)
            place += window * tile

    def divide(self, image: np.ndarray) -> None:
        """Divides an image (..., H, W, C), a sum of weighted tiles, by the sum of the weights."""
        rows, columns = self.weights
        image /= rows[:, None, None]
        image /= columns[:, None]

    @functools.cached_property
    def window(self) -> np.ndarray:
        """(h, w) weights of a tile's pixels: they fall towards its borders and are never zero."""
        return np.outer(*(_ramp(side) for side in self.tile)).astype(np.float32)

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """(H,) and (W,): the sum of all windows at a pixel is the product of these two."""
        return self._weights(0), self._weights(1)

    def _weights(self, axis: int) -> np.ndarray:
        total, side = np.zeros(self.size[axis], np.float32), self.tile[axis]
        for start in (self.rows, self.columns)[axis]:
            total[start : start + side] += _ramp(side).astype(np.float32)
        return total


def plan_tiles(size: tuple[int, int], side: int, multiple: int) -> Tiles:
    """Covers an image with the fewest tiles that overlap by at least a quarter of their side.

    Args:
      size: (height, width) of the image, multiples of `multiple`.
      side: of the tiles, a multiple of `multiple`; an image may be smaller.
      multiple: tiles begin at multiples of it, so that their patches coincide.
    """
    tile = min(size[0], side), min(size[1], side)
    rows, columns = (_starts(*sides, multiple) for sides in zip(size, tile, strict=True))
    return Tiles(size, tile, rows, columns)


def global_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """Returns the (height, width) of global steps: the image's with its shorter side one tile's.

    Args:
      size: (height, width) of the image.
      side: of the tiles; an image whose shorter side is no longer keeps its size.
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
