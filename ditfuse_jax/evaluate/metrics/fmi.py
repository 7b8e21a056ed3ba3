"""Feature mutual information: that of small windows of a feature of F and of the source.

Haghighat, Aghagolzadeh and Seyedarabi 2011 in the fast form of Haghighat and Razian 2014.  In every
3 x 3 window of a feature image the values, stretched to 0..1, are taken as a distribution over the
nine pixels (column by column).  The joint distribution of two windows is Nelsen's: a mixture of
independence and a Frechet bound, weighted by their correlation c.  Values for different features
are not comparable, so each metric is named after its feature.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics import features
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.gradients import central_difference
from ditfuse_jax.evaluate.metrics.metric import two_steps
from ditfuse_jax.evaluate.metrics.sums import Size

_SIDE = 3
_CELLS = _SIDE**2
# Feature images of the stack, `(K + M, H, W)`, and their size where they are padded.
Feature = tuple[jax.Array, Size]

_STRIP = 8  # rows at a time: every pixel takes a hundred numbers, 81 times


def _information(feature: Feature, sources: int) -> jax.Array:
    """Returns the scores `(M,)` of features of K sources and M fused images."""
    maps, size = feature
    height, width = (side - _SIDE + 1 for side in size or maps.shape[1:])
    rows = min(_STRIP, maps.shape[1] - _SIDE + 1)
    used = jnp.arange(maps.shape[2] - _SIDE + 1) < width

    def add(number: jax.Array, total: jax.Array) -> jax.Array:
        # The last strip overlaps rows that were counted before.
        start = jnp.clip(height - rows, 0, number * rows)
        part = jax.lax.dynamic_slice_in_dim(maps, start, rows + _SIDE - 1, axis=1)
        windows = _windows(part)
        local = jnp.where(used, _local(windows[:sources, None], windows[None, sources:]), 0)
        row = start + jnp.arange(rows)
        new = (row >= number * rows) & (row < height)
        return total + jnp.sum(jnp.sum(local, axis=-1) / width * new, axis=-1)

    # Rows that belong to no image are not visited.
    strips = (height + rows - 1) // rows
    start = jnp.zeros((sources, len(maps) - sources))
    return jnp.mean(jax.lax.fori_loop(0, strips, add, start), axis=0) / height


def _feature(images: Comparison, maps: jax.Array, size: Size) -> Feature:
    if size is not None:  # to one shape: all features then share a program
        height, width = (features.wavelet_side(side) for side in images.stack.shape[1:])
        maps = jnp.pad(maps, [(0, 0), (0, height - maps.shape[1]), (0, width - maps.shape[2])])
    return maps, size


@two_steps(_information)
def pixel_information(images: Comparison) -> Feature:
    """FMI_pixel: the feature is the image itself.

    **Mean** over the sources and windows of 2 MI / (H_X + H_F), 1 where the windows are equal; 0 to
    1; higher is better.  In Linfeng's code the metric of this name has edges as its feature.
    """
    return _feature(images, images.stack, images.size)


@two_steps(_information)
def gradient_information(images: Comparison) -> Feature:
    """FMI_gradient: the feature is the horizontal central difference; see `pixel_information`."""
    return _feature(images, central_difference(images.stack, -1, images.size), images.size)


@two_steps(_information)
def edge_information(images: Comparison) -> Feature:
    """FMI_edge: the feature is a map of thinned Sobel edges; see `pixel_information`."""
    return _feature(images, features.edges(images.stack, images.size), images.size)


@two_steps(_information)
def cosine_information(images: Comparison) -> Feature:
    """FMI_dct: the feature is the image's discrete cosine transform; see `pixel_information`."""
    coefficients = images.prepared.get("FMI_dct")
    if coefficients is None:
        coefficients = features.cosine_transform(images.stack)
    return _feature(images, coefficients, images.size)


@two_steps(_information)
def wavelet_information(images: Comparison) -> Feature:
    """FMI_wavelet: the feature is one level of the Meyer wavelet; see `pixel_information`."""
    size = images.size and tuple(features.wavelet_side(side) for side in images.size)
    return _feature(images, features.wavelet(images.stack, images.size), size)


def _windows(feature: jax.Array) -> jax.Array:
    """The nine cells of each window, column by column, `(N, 9, h, w)`."""
    height, width = (side - _SIDE + 1 for side in feature.shape[1:])
    cells = [
        feature[:, row : row + height, column : column + width]
        for column in range(_SIDE)
        for row in range(_SIDE)
    ]
    return jnp.stack(cells, axis=1)


def _local(x: jax.Array, f: jax.Array) -> jax.Array:
    """2 MI / (H_X + H_F) of windows `(K, 1, 9, h, w)` and `(1, M, 9, h, w)`."""
    x, f = jnp.moveaxis(x, 2, 0), jnp.moveaxis(f, 2, 0)
    p, q = _distribution(x), _distribution(f)
    to_x, to_f = _cumulative(p), _cumulative(q)
    correlation = _correlation(p, q)
    upper = correlation >= 0  # which of the two bounds on the joint distribution

    def bound(i: jax.Array, j: jax.Array) -> jax.Array:
        return jnp.where(
            upper, jnp.minimum(to_x[i], to_f[j]), jnp.maximum(to_x[i] + to_f[j] - 1, 0)
        )

    covariance = _over_pairs(bound, upper.shape) - _over_cells(to_x) * _over_cells(to_f)
    spread = _spread(p) * _spread(q)
    weight = jnp.where((correlation == 0) | (spread == 0), 0, correlation * spread / covariance)

    def bits(i: jax.Array, j: jax.Array) -> jax.Array:
        # What two places share under a bound is what their parts of 0..1 have in common: those of X
        # in their order for the upper bound, in the reverse for the lower.
        end = jnp.where(upper, to_x[i], 1 - to_x[i] + p[i])
        shared = jnp.minimum(end, to_f[j]) - jnp.maximum(end - p[i], to_f[j] - q[j])
        return _bits(weight * jnp.maximum(shared, 0) + (1 - weight) * p[i] * q[j])

    apart = _over_cells(_bits(p)) + _over_cells(_bits(q))
    information = apart - _over_pairs(bits, upper.shape)
    local = jnp.where(information == 0, 0, 2 * information / apart)
    return jnp.where(_over_cells(x == f, jnp.logical_and), 1, local)


def _over_cells(
    values: jax.Array, combine: Callable[[jax.Array, jax.Array], jax.Array] = jnp.add
) -> jax.Array:
    """Reduces the leading axis as nine images: on a CPU much faster than a reduction."""
    return functools.reduce(combine, [values[i] for i in range(_CELLS)])


def _cumulative(p: jax.Array) -> jax.Array:
    return jnp.stack(list(itertools.accumulate(p[i] for i in range(_CELLS))))


def _over_pairs(
    term: Callable[[jax.Array, jax.Array], jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """Sums `term(i, j)` over all places i of X and j of F."""

    def add(number: jax.Array, total: jax.Array) -> jax.Array:
        return total + term(number // _CELLS, number % _CELLS)

    return jax.lax.fori_loop(0, _CELLS**2, add, jnp.zeros(shape))


def _distribution(cells: jax.Array) -> jax.Array:
    """`(9, ...)`, summing to one."""
    low, high = _over_cells(cells, jnp.minimum), _over_cells(cells, jnp.maximum)
    span = jnp.where(high == low, 1, high - low)
    # Loops keep the compiler from repeating the divisions for every use.
    values = jax.lax.map(lambda cell: jnp.where(high == low, 1, (cell - low) / span), cells)
    total = _over_cells(values)
    return jax.lax.map(lambda value: value / total, values)


def _correlation(p: jax.Array, q: jax.Array) -> jax.Array:
    """Pearson's, 0 where there is none."""
    p, q = p - 1 / _CELLS, q - 1 / _CELLS
    shared = _over_cells(p * q)
    size = jnp.sqrt(_over_cells(p * p) * _over_cells(q * q))
    return jnp.where(shared == 0, 0, shared / size)


def _spread(p: jax.Array) -> jax.Array:
    """The standard deviation of the position, counted from the middle; exactly 0 for one pixel."""
    place = jnp.arange(_CELLS, dtype=jnp.float32).reshape(_CELLS, 1, 1, 1, 1) - _CELLS // 2
    variance = _over_cells(place**2 * p) - _over_cells(place * p) ** 2
    return jnp.sqrt(jnp.maximum(variance, 0))


def _bits(p: jax.Array) -> jax.Array:
    """-p log2 |p|: parts of the joint distribution can be slightly negative."""
    return -p * jnp.log2(jnp.where(p == 0, 1, jnp.abs(p)))
