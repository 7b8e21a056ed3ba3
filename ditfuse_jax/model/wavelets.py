"""Images as sums of frequency bands: the undecimated "a trous" wavelet.

Smoothing with the binomial filter [1 2 1] / 4 at growing dilation gives ever lower passes; what
each step takes away is a band (Starck, Fadili and Murtagh 2007, "The Undecimated Wavelet
Decomposition and its Reconstruction").  All bands have the image's own grid; their sum is the
image.
"""

import jax
import jax.numpy as jnp

LEVELS = 4  # dilations 1, 2, 4, 8: the rest is smooth over about 6.5 pixels

_RED, _BLUE = 0.299, 0.114  # of luma (BT.601)


def smooth(x: jax.Array, dilation: int, axes: tuple[int, int] = (-2, -1)) -> jax.Array:
    """Binomial smoothing of (..., H, W), or along other axes; borders continue as they end."""
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
    """(..., H, W) into `LEVELS` bands, finest first, and what is left; they sum to x."""
    bands = []
    for level in range(LEVELS):
        low = smooth(x, 2**level)
        bands.append(x - low)
        x = low
    return [*bands, x]


def activity(bands: list[jax.Array]) -> list[jax.Array]:
    """Mean magnitude of each band around every pixel, over some of its wavelengths."""
    return [
        smooth(smooth(jnp.abs(band), 2**level), 2 ** (level + 1))
        for level, band in enumerate(bands)
    ]


def to_luma_chroma(rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(..., 3) into luma (...) and the differences of red and blue to it (..., 2)."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue
    return luma, jnp.stack([red - luma, blue - luma], axis=-1)


def to_rgb(luma: jax.Array, chroma: jax.Array) -> jax.Array:
    """The inverse of `to_luma_chroma`."""
    red, blue = chroma[..., 0], chroma[..., 1]
    green = -(_RED * red + _BLUE * blue) / (1 - _RED - _BLUE)
    return luma[..., None] + jnp.stack([red, green, blue], axis=-1)
