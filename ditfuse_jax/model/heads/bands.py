"""A head that fuses the sources band by band, with a generated image as a further candidate."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.checks import require_pixels
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.heads.head import Head
from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.rngs import Rngs
from ditfuse_jax.model.wavelets import LEVELS, activity, decompose, smooth, to_luma_chroma, to_rgb

NUM_GATES = 8  # values per place with which the tokens control the weighting network
_CELL_SIZE = 4  # pixels along the side of the square that shares one set of token outputs
_WIDTH = 24  # hidden units of the weighting network
PARTS = LEVELS + 2  # detail bands, low-pass residual, chroma
_FEATURES = 2 * LEVELS + 5
# Layers of the weighting network: inputs, outputs, and whether they run once per source.
_PIXEL_LAYERS = {
    "of_source": (_FEATURES, _WIDTH, True),
    "of_tokens": (NUM_GATES, _WIDTH, False),
    "hidden": (_WIDTH, _WIDTH, True),
    "weigh": (_WIDTH, 2 * PARTS + 1, True),
}
ROWS_AND_COLUMNS = (-3, -2)
# A source's initial weight is e**3 times that of the generated image.
GENERATED_LOGIT_OFFSET = -3.0
_ABSENT_LOGIT = -1e9  # of a source that is absent
EPSILON = 0.01  # activity below this, of a value range of 2, counts as none


class BandsHead(Head):
    """Weights every frequency band of the sources separately, for every pixel.

    The luma of each source is decomposed into wavelet bands.  A small network with the same
    parameters for every pixel and every source takes the activity of the bands at the pixel, alone
    and relative to the other sources, and gate values from the target tokens.  For each band, the
    low-pass residual and the chroma it predicts a weight and a gain, and for the residual also an
    offset.  The weights are a softmax over the sources.  For the residual and the chroma an image
    generated from the tokens is one more candidate; it has no detail bands.  Because all sources
    are treated alike, more sources than in training work too.
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        def layer(name: str, **kwargs) -> Linear:
            inputs, outputs, _ = _PIXEL_LAYERS[name]
            axes = (None, None)
            return Linear((inputs,), (outputs,), axes, rngs=rngs, dtype=config.dtype, **kwargs)

        channels, side = NUM_GATES + config.channels + 1, cells_per_side(config)
        self.output = FinalLayer(config, channels, rngs=rngs, side=side)
        self.of_source = layer("of_source", bias=True)
        self.of_tokens = layer("of_tokens")
        self.hidden = layer("hidden", bias=True)
        self.weigh = layer("weigh", zero=True)

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """See `Head`."""
        # Smoothed so that the borders between cells are not visible.
        out = smooth(self.output(hidden, time, grid), 1, ROWS_AND_COLUMNS)
        size = (*out.shape[:2], *sources.shape[2:4], out.shape[-1])
        out = jax.image.resize(out, size, "linear")
        gates, generated = out[..., :NUM_GATES], out[..., NUM_GATES:-1]
        generated_logit = out[..., -1] + GENERATED_LOGIT_OFFSET

        valid = source_valid[:, :, None, None]
        sources = jnp.where(valid[..., None], sources, 0.0)
        luma, chroma = to_luma_chroma(sources)
        bands = decompose(luma)
        features = _features(luma, bands, chroma, valid)

        # (B, K, n, H, W, ...): every draw's gates with every source's features.
        x = self.of_source(features)[:, None] + self.of_tokens(gates)[:, :, None]
        x = jax.nn.silu(self.hidden(jax.nn.silu(x)))
        x = self.weigh(x).astype(jnp.float32)
        logits, gains, offset = jnp.split(x, [PARTS, 2 * PARTS], axis=-1)
        logits = jnp.where(valid[:, None, ..., None], logits, _ABSENT_LOGIT)
        gains = 2 * jax.nn.sigmoid(gains)

        # A loop over the few sources: XLA reduces over a short inner axis slowly on CPUs.
        count = sources.shape[1]
        source_logits = [logits[:, :, k] for k in range(count)]
        detail_weights = softmax_of([x[..., :LEVELS] for x in source_logits])
        generated_logits = jnp.stack([generated_logit] * 2, axis=-1)
        *rest_weights, generated_weight = softmax_of(
            [*(x[..., LEVELS:] for x in source_logits), generated_logits]
        )
        generated_luma, generated_chroma = to_luma_chroma(generated)
        fused = generated_weight[..., 0] * generated_luma
        fused_chroma = generated_weight[..., 1:] * generated_chroma
        for k in range(count):
            gain, rest = gains[:, :, k], rest_weights[k]
            residual = gain[..., LEVELS] * bands[LEVELS][:, None, k]
            fused += rest[..., 0] * (residual + offset[:, :, k, ..., 0])
            for level in range(LEVELS):
                weight = detail_weights[k][..., level] * gain[..., level]
                fused += weight * bands[level][:, None, k]
            fused_chroma += rest[..., 1:] * gain[..., -1:] * chroma[:, None, k]
        return to_rgb(fused, fused_chroma)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        require_pixels(config)

    @classmethod
    def outputs_per_token(cls, config: ModelConfig) -> int:
        return cells_per_side(config) ** 2 * (NUM_GATES + config.channels + 1)

    @classmethod
    def pixel_layers(cls) -> Mapping[str, tuple[int, int, bool]]:
        return _PIXEL_LAYERS


def softmax_of(logits: list[jax.Array]) -> list[jax.Array]:
    """Softmax across the arrays of a list."""
    peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, logits))
    powers = [jnp.exp(x - peak) for x in logits]
    total = functools.reduce(jnp.add, powers)
    return [power / total for power in powers]


def cells_per_side(config: ModelConfig) -> int:
    """Number of token outputs along the side of a patch; they are interpolated to pixels."""
    return max(1, config.patch_size // _CELL_SIZE)


def _features(
    luma: jax.Array, bands: list[jax.Array], chroma: jax.Array, valid: jax.Array
) -> jax.Array:
    """Computes the weighting network's input for every source and pixel, of magnitude about 1.

    Args:
      luma: (B, n, H, W), zero where a source is absent.
      bands: the bands of `luma` and the low-pass residual, as `decompose` returns them.
      chroma: (B, n, H, W, 2).
      valid: (B, n, 1, 1).

    Returns:
      (B, n, H, W, F).
    """
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)

    def relative_to_others(strength: jax.Array) -> jax.Array:
        total = jnp.sum(strength * valid, axis=1, keepdims=True)
        return strength / (total + EPSILON) - 1 / count

    *details, low = bands
    strengths = activity(details)
    saturation = jnp.sqrt(jnp.sum(jnp.square(chroma), axis=-1) + 1e-6)
    return jnp.stack(
        [
            *(2 * relative_to_others(strength) for strength in strengths),
            *(jnp.log(strength + EPSILON) / 2 + 1.5 for strength in strengths),
            luma,
            low,
            low - jnp.sum(low, axis=1, keepdims=True) / count,
            2 * relative_to_others(saturation),
            saturation,
        ],
        axis=-1,
    )
