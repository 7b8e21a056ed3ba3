"""Changes of the predicted image that an instruction asks for."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.guided_filter import enlarge_guided
from ditfuse_jax.model.heads.bands import cells_per_side
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.rngs import Rngs
from ditfuse_jax.model.wavelets import decompose, smooth, to_luma_chroma, to_rgb

# Values per cell: tone exponent, contrast and its middle, chroma, gains of three bands of the luma,
# smoothing, coverage of the overlay.  Its colour follows.
NUM_ADJUSTMENTS = 9
_BANDS = 3
_MAX_EXPONENT = 1.2  # of the logarithm of the tone curve's exponent
# Coverage of an overlay that counts as none, so that no colour is added where none is asked for.
_NO_COVERAGE = 0.02
_INITIAL_COVERAGE = -4.0
_SMOOTHING_EPSILON = 4e-3  # of the guided filter, for a value range of 2


class Adjustments(nnx.Module):
    """Operations on the predicted image whose strengths the target tokens predict.

    They are those that targets are changed with (`degrade/adjust.py`), in this order: a tone curve,
    contrast about a middle, smoothing that keeps edges, gains of fine bands, chroma, and an overlay
    of a colour.  The strengths are maps of cells, enlarged so that their borders follow the image.
    A fresh layer changes nothing.  Luma changes scale the chroma, so a grey image stays grey unless
    an overlay covers it.
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        channels = NUM_ADJUSTMENTS + config.channels
        self.output = FinalLayer(config, channels, rngs=rngs, side=cells_per_side(config))

    def __call__(
        self, image: jax.Array, hidden: jax.Array, time: jax.Array, grid: tuple[int, int]
    ) -> jax.Array:
        """Changes K images for each of B conditions.

        Args:
          image: (B, K, H, W, 3) predictions of the head.
          hidden: (B, K, P, D) hidden states of the target tokens.
          time: (B, K, D) timestep embedding.
          grid: rows and columns of the P tokens.

        Returns:
          (B, K, H, W, 3) float32.
        """
        luma, chroma = to_luma_chroma(image)
        maps = enlarge_guided(self.output(hidden, time, grid), luma)
        strengths, colour = jnp.split(maps, [NUM_ADJUSTMENTS], axis=-1)
        coverage = jax.nn.sigmoid(strengths[..., -1] + _INITIAL_COVERAGE)
        coverage = jax.nn.relu(coverage - _NO_COVERAGE) / (1 - _NO_COVERAGE)
        changed = to_rgb(*adjust_tones(luma, chroma, strengths))
        return changed + coverage[..., None] * (colour - changed)

    @classmethod
    def outputs_per_token(cls, config: ModelConfig) -> int:
        """Number of values that the layer computes for each target token; counts FLOPs."""
        return cells_per_side(config) ** 2 * (NUM_ADJUSTMENTS + config.channels)


def adjust_tones(
    luma: jax.Array, chroma: jax.Array, strengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Changes an image in [-1, 1].

    Args:
      luma: (..., H, W).
      chroma: (..., H, W, 2).
      strengths: (..., H, W, `NUM_ADJUSTMENTS`); zeros change nothing.
    """
    exponent, slope, middle, saturation = (strengths[..., k] for k in range(4))
    gains = strengths[..., 4 : 4 + _BANDS]
    smoothing = jnp.clip(strengths[..., 4 + _BANDS], 0, 1)
    before = jnp.clip((luma + 1) / 2, 1e-3, 1)
    power = jnp.exp(_MAX_EXPONENT * jnp.tanh(exponent / _MAX_EXPONENT))
    toned = before**power
    toned = toned + slope * (toned - 0.5 - middle)
    # The chroma is scaled like the luma; in the dark the ratio would amplify noise.
    scale = jnp.clip(toned, 0.02, 1) / jnp.maximum(before, 0.02)
    changed = luma + 2 * (toned - before)
    bands = decompose(changed)[:_BANDS]
    smoothed = _guided_smooth(changed)
    changed = changed + smoothing * (smoothed - changed)
    for level, band in enumerate(bands):
        changed = changed + gains[..., level] * band
    chroma_gain = jnp.maximum(1 + saturation, 0) * scale
    return changed, chroma * chroma_gain[..., None]


def _guided_smooth(luma: jax.Array) -> jax.Array:
    """Smooths luma (..., H, W) by itself and keeps edges (He et al. 2013)."""

    def window_mean(x: jax.Array) -> jax.Array:
        return smooth(smooth(x, 1), 2)

    mean = window_mean(luma)
    variance = jnp.maximum(window_mean(jnp.square(luma)) - jnp.square(mean), 0)
    gain = variance / (variance + _SMOOTHING_EPSILON)
    return window_mean(gain) * luma + window_mean((1 - gain) * mean)
