"""Moments of pixel values: contrast, correlation, squared error and the signal-to-noise ratio."""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.sums import Centred, covariance

PEAK = 255.0


def standard_deviation(images: Comparison) -> jax.Array:
    """SD = sqrt(mean (F - mean F)^2), divided by the number of pixels.

    Grey levels, 0 (flat) to 127.5; higher is more contrast.
    """
    _, fused = images.centred
    return jnp.sqrt(covariance(fused, fused))[0]


def correlation_coefficient(images: Comparison) -> jax.Array:
    """CC = mean over the sources of r(X, F), Pearson's correlation.

    -1 to 1; higher is better; undefined where an image is flat.
    """
    return jnp.mean(_correlation(*images.centred), axis=0)


def correlations_of_differences(images: Comparison) -> jax.Array:
    """SCD = r(F - B, A) + r(F - A, B): what F adds to one source should be the other.

    Of two sources, **summed**; -2 to 2; higher is better; undefined where F equals a source up to a
    constant, or a source is flat.  Aslantas and Bendes 2015.
    """
    sources, fused = images.centred
    return jnp.sum(_correlation(fused - sources[::-1], sources), axis=0)


def mean_squared_error(images: Comparison) -> jax.Array:
    """MSE = mean over the sources of mean (F - X)^2.

    Squared grey levels, 0 to 65,025; lower is closer to the sources' mean.
    """
    differences = (images.fused - images.sources).astype(jnp.int32)
    return jnp.mean(images.integer_mean(differences**2), axis=0)


def root_mean_squared_error(images: Comparison) -> jax.Array:
    """RMSE = sqrt(MSE), of the mean over the sources.

    Grey levels, 0 to 255; lower is closer to the sources' mean.
    """
    return jnp.sqrt(images.once(mean_squared_error))


def psnr(images: Comparison) -> jax.Array:
    """PSNR = 10 log10(255^2 / MSE), of the mean MSE over the sources (not the mean of their PSNRs).

    dB; 12 to 16 for real infrared-visible results, infinite where F equals all sources; higher is
    closer to the sources' mean.
    """
    return decibels(images.once(mean_squared_error))


def clean_psnr(images: Comparison) -> jax.Array:
    """PSNR of the fused image against the clean one, over all three channels.

    dB; infinite for identical images; higher is better.
    """
    assert images.fused_rgb is not None and images.clean_rgb is not None
    differences = images.fused_rgb.astype(jnp.int32) - images.clean_rgb.astype(jnp.int32)
    by_channel = images.integer_mean(jnp.moveaxis(differences, -1, 1) ** 2)
    return decibels(jnp.mean(by_channel, axis=-1))


def decibels(error: jax.Array) -> jax.Array:
    """Returns 10 log10(255^2 / error); infinite where the squared error is zero."""
    return 10.0 * jnp.log10(PEAK**2 / error)


def _correlation(a: Centred, b: Centred) -> jax.Array:
    return covariance(a, b) / jnp.sqrt(covariance(a, a) * covariance(b, b))
