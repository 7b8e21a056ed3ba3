"""Sharpness metrics: differences between neighbouring pixels."""

import math

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.gradients import central_difference, magnitude, sobel

_DIAGONAL = math.sqrt(0.5)


def spatial_frequency(images: Comparison) -> jax.Array:
    """SF = sqrt(RF^2 + CF^2), the mean squared differences along rows and along columns.

    Divided by the number of differences.  Grey levels, at least 0; higher is sharper, noise
    included.  Eskicioglu and Fisher 1995.
    """
    fused = images.fused[0].astype(jnp.int32)
    across, down = fused[..., 1:] - fused[..., :-1], fused[..., 1:, :] - fused[..., :-1, :]
    return jnp.sqrt(images.integer_mean(across**2) + images.integer_mean(down**2))


def average_gradient(images: Comparison) -> jax.Array:
    """AG = sum sqrt((g_x^2 + g_y^2) / 2) / ((M-1)(N-1)), g by central differences.

    One-sided at the borders.  Grey levels, at least 0; higher is sharper, noise included.  Cui et
    al. 2015.
    """
    height, width = images.size or images.fused.shape[-2:]
    return mean_gradient(images) * (height * width / ((height - 1) * (width - 1)))


def mean_gradient(images: Comparison) -> jax.Array:
    """Returns the mean of AG's summands over all pixels."""
    down, across = (central_difference(images.fused[0], axis, images.size) for axis in (-2, -1))
    return images.mean(jnp.sqrt((across**2 + down**2) / 2))


def edge_intensity(images: Comparison) -> jax.Array:
    """EI = mean magnitude of the Sobel response, borders repeated.

    Grey levels, at least 0; higher is sharper, noise included.  Rajalingam and Priya 2018.
    """
    return images.mean(magnitude(*sobel(images.fused[0], "edge", images.size)))


def extended_spatial_frequency(images: Comparison) -> jax.Array:
    """Q_SF = (SF_F - SF_R) / SF_R, SF with rows, columns and both diagonals (weight sqrt(1/2)).

    SF_R takes at each pixel the largest difference of any source.  At least -1; 0 is best, below
    it detail was lost, above it was added; undefined where all sources are flat.  Zheng, Essock,
    Hansen and Haun 2007.
    """
    sources, fused = (x.astype(jnp.int32) for x in (images.sources[:, 0], images.fused[0]))
    own, reference = jnp.float32(0), jnp.float32(0)
    for (weight, of_fused), (_, of_sources) in zip(
        _differences(fused), _differences(sources), strict=True
    ):
        weight *= images.count(of_fused)
        own += weight * images.integer_mean(of_fused**2)
        reference += weight * images.integer_mean(jnp.max(jnp.abs(of_sources), axis=0) ** 2)
    return (jnp.sqrt(own) - jnp.sqrt(reference)) / jnp.sqrt(reference)


def _differences(x: jax.Array) -> list[tuple[float, jax.Array]]:
    """Weight and differences in each direction."""
    return [
        (1.0, x[..., :, 1:] - x[..., :, :-1]),
        (1.0, x[..., 1:, :] - x[..., :-1, :]),
        (_DIAGONAL, x[..., 1:, 1:] - x[..., :-1, :-1]),
        (_DIAGONAL, x[..., 1:, :-1] - x[..., :-1, 1:]),
    ]
