"""The undecimated "a trous" wavelet decomposition of images into frequency bands.

The image is smoothed with the binomial filter [1 2 1] / 4 at growing dilation; a band is the
difference of two successive results (Starck, Fadili and Murtagh 2007, "The Undecimated Wavelet
Decomposition and its Reconstruction").  All bands have the image's size and sum to the image.
"""

import jax
import jax.numpy as jnp

LEVELS = 4  # dilations 1, 2, 4, 8: the standard deviation of the low-pass is about 6.5 pixels

_RED, _BLUE = 0.299, 0.114  # weights in luma (BT.601)


def smooth(x: jax.Array, dilation: int, axes: tuple[int, int] = (-2, -1)) -> jax.Array:
    """Applies the binomial filter along two axes, by default of (..., H, W); edges are repeated."""
    for axis in (axis % x.ndim for axis in axes):
        margins = [(0, 0)] * x.ndim
        margins[axis] = (dilation, dilation)
        size, wide = x.shape[axis], jnp.pad(x, margins, mode="edge")
        before, after = (
            jax.lax.slice_in_dim(wide, start, start + size, axis=axis)
            for start in (0, 2 * dilation)
        )
        x = 0.5 * x + 0.25 * (before + after)
    return x


def decompose(x: jax.Array) -> list[jax.Array]:
    """Decomposes (..., H, W) into `LEVELS` bands, finest first, and the low-pass residual."""
    bands = []
    for level in range(LEVELS):
        low = smooth(x, 2**level)
        bands.append(x - low)
        x = low
    return [*bands, x]


def activity(bands: list[jax.Array]) -> list[jax.Array]:
    """Computes the local mean magnitude of each band, over some of its wavelengths."""
    return [
        smooth(smooth(jnp.abs(band), 2**level), 2 ** (level + 1))
        for level, band in enumerate(bands)
    ]


def to_luma_chroma(rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Converts RGB (..., 3) to luma (...) and chroma (..., 2): red - luma and blue - luma."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue
    return luma, jnp.stack([red - luma, blue - luma], axis=-1)


def to_rgb(luma: jax.Array, chroma: jax.Array) -> jax.Array:
    """Inverts `to_luma_chroma`."""
    red, blue = chroma[..., 0], chroma[..., 1]
    green = -(_RED * red + _BLUE * blue) / (1 - _RED - _BLUE)
    return luma[..., None] + jnp.stack([red, green, blue], axis=-1)
