"""Moments under a sliding separable window, as a loop over its cells, each a shifted image.

On a CPU this is several times faster than a convolution with one channel, and than an unrolled sum,
which the compiler fuses with later operations and then computes repeatedly.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_window(size: int, sigma: float) -> np.ndarray:
    """Returns `(size,)` float64 samples of a centred Gaussian, summing to one."""
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def box_window(size: int) -> np.ndarray:
    """Returns `(size,)` equal weights, summing to one."""
    return np.full(size, 1 / size)


def filtered(images: jax.Array, weights: np.ndarray) -> jax.Array:
    """Returns the means of `(..., H, W)` under each whole window `weights x weights`.

    Both sides shrink by n - 1 for `n` weights, which must sum to one.  A window of equal
    pixels has exactly their value.
    """
    return _mean(_mean(images, weights, -2), weights, -1)


def same_size(images: jax.Array, weights: np.ndarray) -> jax.Array:
    """Returns the sums of `(..., H, W)` under windows of odd side around each pixel.

    Borders are padded with zeros; the weights need not sum to one.
    """
    half = len(weights) // 2
    borders = [(0, 0)] * (images.ndim - 2) + [(half, half), (half, half)]
    padded = jnp.pad(images, borders)
    columns = _sum_of_cells(lambda cell: cell(padded, -2), weights)
    return _sum_of_cells(lambda cell: cell(columns, -1), weights)


class Windows:
    """Images seen through the sliding window `weights x weights`, whole windows only.

    The usual E[x^2] - E[x]^2 loses the digits of a small variance in float32.  Here only deviations
    are squared: first within each column of the window, then, by the law of total variance, of the
    columns' means about the window's mean.  The variance of a flat window is exactly zero.

    Attributes:
      mean: `(..., H - n + 1, W - n + 1)`.
    """

    def __init__(self, images: jax.Array, weights: np.ndarray):
        """`images` are float32 `(..., H, W)`, sides at least n; `weights` `(n,)`, summing to 1."""
        self._images, self._weights, self._index = images, weights, ...
        self._columns = _mean(images, weights, -2)
        self.mean = _mean(self._columns, weights, -1)

    @functools.cached_property
    def variance(self) -> jax.Array:
        """Local variances, of the shape of `mean`."""
        return self.covariance(self)

    def __getitem__(self, index: Any) -> "Windows":
        """Selects images by the leading axes; a selection cannot be indexed again."""
        some = copy.copy(self)
        some._index, some.mean, some.variance = index, self.mean[index], self.variance[index]
        return some

    def covariance(self, other: "Windows") -> jax.Array:
        """Returns covariances with images of the same size and window; leading axes broadcast."""
        within = _sum_of_cells(lambda cell: self._within(cell) * other._within(cell), self._weights)
        return _sum_of_cells(
            lambda cell: cell(within, -1) + self._between(cell) * other._between(cell),
            self._weights,
        )

    # Selected inside the loop, where it is free, instead of copied before it.
    def _within(self, cell: "Cell") -> jax.Array:
        return cell(self._images[self._index], -2) - self._columns[self._index]

    def _between(self, cell: "Cell") -> jax.Array:
        return cell(self._columns[self._index], -1) - self.mean


Cell = Callable[[jax.Array, int], jax.Array]


def _mean(images: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
    n = len(weights)
    middle = jax.lax.slice_in_dim(images, n // 2, images.shape[axis] - (n - 1) // 2, axis=axis)
    # Relative to the middle cell: equal cells stay equal despite rounding.
    return _sum_of_cells(lambda cell: cell(images, axis) - middle, weights, start=middle)


def _sum_of_cells(
    term: Callable[[Cell], jax.Array], weights: np.ndarray, start: jax.Array | None = None
) -> jax.Array:
    """Adds `weights[i] * term(cell)` to `start`; `cell(x, axis)` is every window's i-th cell."""
    n, weight = len(weights), jnp.asarray(weights, jnp.float32)

    def cell(i: jax.Array | int, images: jax.Array, axis: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(images, i, images.shape[axis] - n + 1, axis)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + weight[i] * term(functools.partial(cell, i))

    if start is None:
        start = jnp.zeros(jax.eval_shape(lambda: term(functools.partial(cell, 0))).shape)
    return jax.lax.fori_loop(0, n, add, start)
