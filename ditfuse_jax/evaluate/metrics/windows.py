"""Moments under a sliding separable window, as a loop over its cells, each a shifted image.

On a CPU this is several times faster than a convolution with one channel and twice as fast as the
same sum unrolled, and it is quick to compile, which counts where every image has its own size.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Term = Callable[[Callable[[jax.Array], jax.Array]], jax.Array]


class Moments(NamedTuple):
    """Local means, variances and covariance of two images, each `(H - n + 1, W - n + 1)`."""

    mean_x: jax.Array
    mean_y: jax.Array
    variance_x: jax.Array
    variance_y: jax.Array
    covariance: jax.Array


def gaussian_window(size: int, sigma: float) -> np.ndarray:
    """Returns `(size,)` float64 samples of a centred Gaussian, summing to one."""
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def window_sum(image: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
    """Returns the weighted sum along `axis` of each whole window of `n = len(weights)` cells.

    The axis shrinks by n - 1.
    """
    return _sum_of_cells(lambda cell: cell(image), image.shape, weights, axis)


def local_moments(x: jax.Array, y: jax.Array, weights: np.ndarray) -> Moments:
    """Moments of two images under the window `weights x weights`, whole windows only.

    The usual E[x^2] - E[x]^2 loses the digits of a small variance in float32.  Here only deviations
    are squared: first within each column of the window, then, by the law of total variance, of the
    columns' means about the window's mean.

    Args:
      x, y: float32 `(H, W)`, sides at least `n`.
      weights: `(n,)`, summing to one.
    """
    column_x, column_y = window_sum(x, weights, 0), window_sum(y, weights, 0)
    mean_x, mean_y = window_sum(column_x, weights, 1), window_sum(column_y, weights, 1)

    def moment(a, column_a, mean_a, b, column_b, mean_b) -> jax.Array:
        within = _covariance(a, column_a, b, column_b, weights, 0)
        between = _covariance(column_a, mean_a, column_b, mean_b, weights, 1)
        return window_sum(within, weights, 1) + between

    of_x, of_y = (x, column_x, mean_x), (y, column_y, mean_y)
    return Moments(mean_x, mean_y, moment(*of_x, *of_x), moment(*of_y, *of_y), moment(*of_x, *of_y))


def _covariance(a, mean_a, b, mean_b, weights: np.ndarray, axis: int) -> jax.Array:
    return _sum_of_cells(
        lambda cell: (cell(a) - mean_a) * (cell(b) - mean_b), a.shape, weights, axis
    )


def _sum_of_cells(term: Term, shape: tuple[int, ...], weights: np.ndarray, axis: int) -> jax.Array:
    """Sums `weights[i] * term(cell)`; `cell(image)` is the i-th cell of every window on `axis`."""
    size = shape[axis] - len(weights) + 1
    weight = jnp.asarray(weights, jnp.float32)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        cell = functools.partial(
            jax.lax.dynamic_slice_in_dim, start_index=i, slice_size=size, axis=axis
        )
        return total + weight[i] * term(cell)

    windows = (*shape[:axis], size, *shape[axis + 1 :])
    return jax.lax.fori_loop(0, len(weights), add, jnp.zeros(windows, jnp.float32))
