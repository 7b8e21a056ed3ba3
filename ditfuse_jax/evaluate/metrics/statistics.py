"""Moments of pixel values: contrast, squared error and the signal-to-noise ratio."""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.information import LEVELS, histogram

PEAK = 255.0


def standard_deviation(image: jax.Array) -> jax.Array:
    """SD = sqrt(mean (F - mean F)^2) of the grey image `(H, W)`; grey levels, divided by MN."""
    # Over the 256 levels, not the pixels: the counts are exact, so the only rounding is in 256
    # terms however large the image.  A level that occurs as origin makes a flat image exactly 0.
    p = histogram(image) / image.size
    level = jnp.arange(LEVELS, dtype=jnp.float32) - image[0, 0]
    mean = jnp.sum(p * level)
    return jnp.sqrt(jnp.sum(p * (level - mean) ** 2))


def mean_squared_error(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the mean of (a - b)^2 over two arrays of one shape `(H, ...)` of integers 0..255."""
    difference = a.astype(jnp.int32) - b.astype(jnp.int32)
    # Exact within a row (rows to 11,000 RGB pixels), so float32 adds only H numbers.
    rows = jnp.sum((difference * difference).reshape(len(a), -1), axis=1)
    return jnp.sum(rows.astype(jnp.float32)) / a.size


def peak_signal_to_noise(squared_error: jax.Array) -> jax.Array:
    """Returns 10 log10(255^2 / MSE) in dB; `inf` where the MSE is zero."""
    return 10.0 * jnp.log10(PEAK**2 / squared_error)


def psnr(fused: jax.Array, clean: jax.Array) -> jax.Array:
    """PSNR against the clean image, over all three channels of RGB `(H, W, 3)`; dB.

    Two identical images give `inf`.
    """
    return peak_signal_to_noise(mean_squared_error(fused, clean))


def source_mse(fused: jax.Array, sources: jax.Array) -> jax.Array:
    """MSE against grey sources `(K, H, W)`, **mean** over the sources; squared grey levels."""
    return jnp.mean(jax.vmap(lambda source: mean_squared_error(fused, source))(sources))


def source_psnr(fused: jax.Array, sources: jax.Array) -> jax.Array:
    """PSNR of the mean MSE over the grey sources `(K, H, W)` (not the mean of their PSNRs); dB."""
    return peak_signal_to_noise(source_mse(fused, sources))
