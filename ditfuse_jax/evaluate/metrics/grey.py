"""RGB to grey like MATLAB's rgb2gray, which published fusion tables use."""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics.borders import cleared
from ditfuse_jax.evaluate.metrics.sums import Size, inside

# 0.298936021294, 0.587043074451, 0.114020904255: millionths, and millionths of those.
_WEIGHTS = (298_936, 587_043, 114_021)
_REMAINDERS = (21_294, 74_451, -95_745)
_MILLION = 1_000_000
_TOP = 255


def _stretch_table() -> np.ndarray:
    """Row d, column v: v stretched from 0..d to 0..255; in float64, as MATLAB rounds it."""
    top = np.arange(256)[:, None]
    return np.floor(np.minimum(np.arange(256) / np.maximum(top, 1), 1) * 255 + 0.5)


_STRETCHED = _stretch_table().astype(np.float32)


def luminance(rgb: jax.Array) -> jax.Array:
    """Returns 0.298936021 R + 0.587043074 G + 0.114020904 B rounded half up, MATLAB's rgb2gray.

    Args:
      rgb: `(..., 3)`, integers 0..255 of any dtype.

    Returns:
      `(...)` float32 holding integers 0..255 exactly; a grey input (R = G = B) is unchanged.
    """
    # In integers: float32 would round some of the half-way cases the wrong way.
    channels = [rgb[..., i].astype(jnp.int32) for i in range(3)]
    millionths = sum(weight * x for weight, x in zip(_WEIGHTS, channels, strict=True))
    remainder = sum(weight * x for weight, x in zip(_REMAINDERS, channels, strict=True))
    # Shifted above zero, where division towards zero rounds down.
    millionths += jax.lax.div(remainder + 25 * _MILLION, jnp.int32(_MILLION)) - 25
    return jax.lax.div(millionths + _MILLION // 2, jnp.int32(_MILLION)).astype(jnp.float32)


def stretched(images: jax.Array, size: Size = None) -> jax.Array:
    """Returns grey images `(..., H, W)` whose darkest level is 0 and whose brightest is 255.

    Rounded half up; a flat image becomes black.  Beyond `size` there are zeros.
    """
    levels = images.astype(jnp.int32)
    used = True if size is None else inside(levels, size)
    low = jnp.min(levels, axis=(-2, -1), keepdims=True, where=used, initial=_TOP)
    high = jnp.max(levels, axis=(-2, -1), keepdims=True, where=used, initial=0)
    return cleared(jnp.asarray(_STRETCHED)[high - low, jnp.maximum(levels - low, 0)], size)


def luminance_in_numpy(rgb: np.ndarray) -> np.ndarray:
    """Returns `luminance` of uint8 `(..., 3)`, as float64 `(...)`."""
    weights = np.array(_WEIGHTS, np.int64) * _MILLION + np.array(_REMAINDERS, np.int64)
    trillionths = rgb[..., 0] * weights[0] + rgb[..., 1] * weights[1] + rgb[..., 2] * weights[2]
    return ((trillionths + _MILLION**2 // 2) // _MILLION**2).astype(np.float64)


def stretched_in_numpy(images: np.ndarray) -> np.ndarray:
    """Returns `stretched` of levels `(..., H, W)`, as float64."""
    low, high = (limit(images, axis=(-2, -1), keepdims=True) for limit in (np.min, np.max))
    return _STRETCHED[(high - low).astype(int), (images - low).astype(int)].astype(np.float64)
