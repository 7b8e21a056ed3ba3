"""Feature images for feature mutual information, of grey images `(N, H, W)`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics.borders import extended_along
from ditfuse_jax.evaluate.metrics.buckets import padded
from ditfuse_jax.evaluate.metrics.gradients import sobel
from ditfuse_jax.evaluate.metrics.sums import Size, inside, mean

# The left half and the middle of the symmetric low-pass filter of 61 taps known as "dmey", Abry's
# finite approximation of Meyer's wavelet.
_MEYER = (
    -1.009999956941423e-12,
    8.519459636796214e-09,
    -1.111944952595278e-08,
    -1.079881953962196e-08,
    6.066975741351135e-08,
    -1.086651653673588e-07,
    8.200680650386481e-08,
    1.178300449766393e-07,
    -5.506340565252278e-07,
    1.130794701791671e-06,
    -1.489549216497156e-06,
    7.367572885903746e-07,
    3.20544191334478e-06,
    -1.631269973455281e-05,
    6.554305930575149e-05,
    -0.0006011502343516092,
    -0.002704672124643725,
    0.002202534100911002,
    0.006045814097323304,
    -0.006387718318497156,
    -0.01106149639251345,
    0.0152700151309348,
    0.01742343410372969,
    -0.03213079399021176,
    -0.02434874590607802,
    0.0637390243228016,
    0.03065509196082426,
    -0.1328452004362294,
    -0.03508755565625835,
    0.4445930027575772,
    0.7445855923188063,
)


def edges(images: jax.Array, size: Size = None) -> jax.Array:
    """Returns 1 where MATLAB's `edge` finds a Sobel edge, else 0.

    There the squared response exceeds 4 times its mean and is a local maximum along x, if the
    gradient along x is at least as large as along y, or along y, if that along y is.
    """
    x, y = sobel(images, "edge", size)
    strength = x * x + y * y
    if size is not None:
        strength = jnp.where(inside(strength, size), strength, -1)
    padded = jnp.pad(strength, [(0, 0), (1, 1), (1, 1)], constant_values=-1)
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    above, below = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    crest_x = (jnp.abs(x) >= jnp.abs(y)) & (left <= strength) & (strength > right)
    crest_y = (jnp.abs(y) >= jnp.abs(x)) & (above <= strength) & (strength > below)
    strong = strength > 4 * mean(strength, size)[:, None, None]
    return (strong & (crest_x | crest_y)).astype(jnp.float32)


def cosine_transform(images: jax.Array) -> jax.Array:
    """Returns the orthonormal two-dimensional DCT-II."""
    height, width = images.shape[1:]
    # Without the mean: its coefficient is so large that the others would lose digits.
    level = jnp.round(mean(images))
    coefficients = jax.scipy.fft.dctn(images - level[:, None, None], axes=(1, 2), norm="ortho")
    return coefficients.at[:, 0, 0].add(level * np.sqrt(height * width))


def prepare_cosine_transform(stack: np.ndarray, sources: int) -> np.ndarray:
    """Returns the same for a metric: see `Metric.prepare`."""
    import scipy.fft

    del sources
    with scipy.fft.set_workers(-1):
        coefficients = np.asarray(scipy.fft.dctn(stack, axes=(1, 2), norm="ortho"))
    return padded(coefficients.astype(np.float32))


def wavelet(images: jax.Array, size: Size = None) -> jax.Array:
    """Returns one level of the discrete Meyer wavelet, all bands together stretched to 0..1."""
    bands = wavelet_bands(images, size)
    size = size and (wavelet_side(size[0]), wavelet_side(size[1]))
    used = True if size is None else inside(bands, size)
    low = jnp.min(bands, axis=(1, 2), keepdims=True, where=used, initial=jnp.inf)
    high = jnp.max(bands, axis=(1, 2), keepdims=True, where=used, initial=-jnp.inf)
    return jnp.where(high == low, 1, (bands - low) / jnp.where(high == low, 1, high - low))


def wavelet_bands(images: jax.Array, size: Size = None) -> jax.Array:
    """Returns [cA cH; cV cD] of MATLAB's `dwt2` with "dmey", borders mirrored.

    A side of n pixels gives 2 floor((n + 61) / 2).  cV has the variation along x.
    """
    low, high = _split(images, -1, size)
    approximation, horizontal = _split(low, -2, size)
    vertical, diagonal = _split(high, -2, size)
    counts = size and (_half(size[0]), _half(size[1]))
    top = _side_by_side(approximation, horizontal, -1, counts)
    bottom = _side_by_side(vertical, diagonal, -1, counts)
    return _side_by_side(top, bottom, -2, counts)


def wavelet_side(side: Any) -> Any:
    """Returns how many pixels the bands of so many pixels have together."""
    return 2 * _half(side)


def _half(side: Any) -> Any:
    return (side + 2 * len(_MEYER) - 1) // 2


def _side_by_side(first: jax.Array, second: jax.Array, axis: int, counts: Size) -> jax.Array:
    """Concatenates what belongs to two bands."""
    together = jnp.concatenate([first, second], axis=axis)
    if counts is None:
        return together
    return jax.lax.dynamic_update_slice_in_dim(together, second, counts[axis], axis)


def _split(images: jax.Array, axis: int, size: Size) -> jax.Array:
    """Low and high band along axis -1 or -2, `(2, N, ...)`: filtered and subsampled by 2."""
    filters = jnp.asarray(_filters(), jnp.float32)
    taps, count = filters.shape[1], _half(images.shape[axis])
    padded = extended_along(images, taps - 1, "symmetric", axis, size)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        seen = jax.lax.dynamic_slice_in_dim(padded, taps - i, 2 * count - 1, axis)
        seen = jax.lax.slice_in_dim(seen, 0, None, stride=2, axis=axis)
        return total + filters[:, i].reshape(2, 1, 1, 1) * seen

    shape = list(images.shape)
    shape[axis] = count
    return jax.lax.fori_loop(0, taps, add, jnp.zeros((2, *shape)))


def _filters() -> np.ndarray:
    """Low-pass and high-pass of an orthogonal wavelet, `(2, 62)`."""
    low = np.array([0.0, *_MEYER, *_MEYER[-2::-1]])
    signs = np.where(np.arange(len(low)) % 2, 1.0, -1.0)
    return np.stack([low, signs * low[::-1]])
