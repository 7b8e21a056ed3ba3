"""Per-pixel weights over the frequency bands of the sources, and a painting on top."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.wavelets import LEVELS, activity, decompose, smooth, to_luma_chroma, to_rgb

GATES = 8  # values with which the tokens steer the weighing
EXTRA = GATES + 1  # with the trust in the painting
_CELL = 4  # pixels along the side of the squares that the tokens say them for
WIDTH = 24  # of the network that weighs
_PARTS = LEVELS + 2  # bands, the smooth rest, the colour
_FEATURES = 2 * LEVELS + 5
# Inputs and outputs of its maps for each pixel; all but `of_tokens` for each source, too.
MAPS = {
    "of_source": (_FEATURES, WIDTH),
    "of_tokens": (GATES, WIDTH),
    "hidden": (WIDTH, WIDTH),
    "weigh": (WIDTH, 2 * _PARTS + 1),
}
_ROWS_AND_COLUMNS = (-3, -2)
_DOUBT = 3.0  # a fresh painting is trusted by e to this power less than a source
_NEVER = -1e9  # the share of an absent source, as a logit
_QUIET = 0.01  # activity, of a range of 2, below which a difference means nothing


class BandsHead(nnx.Module):
    """Fuses band by band: what is sharp in one source meets what is bright in another.

    Every source's luma is cut into bands.  A small network, the same for every pixel and every
    source, sees how active the bands are there, in this source and beside the others, and what the
    tokens say of the place; it answers a share and a strength for each band, the smooth rest and
    the colour, and how much brighter the place shall be.  Shares are a softmax over the sources;
    for the smooth rest and the colour a painting of the tokens' competes with them, so that where a
    source is trusted nothing is laid over it.  Since sources are treated alike and any number may
    be compared, stacks larger than those of training work.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        def layer(inputs: int, outputs: int, **kwargs) -> Linear:
            axes = (None, None)
            return Linear((inputs,), (outputs,), axes, rngs=rngs, dtype=config.dtype, **kwargs)

        channels, side = EXTRA + config.channels, cells_per_side(config)
        self.output = FinalLayer(config, channels, rngs=rngs, side=side)
        self.of_source = layer(*MAPS["of_source"], bias=True)
        self.of_tokens = layer(*MAPS["of_tokens"])
        self.hidden = layer(*MAPS["hidden"], bias=True)
        self.weigh = layer(*MAPS["weigh"], zero=True)

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """See `Head`."""
        # Tokens are squares, whose borders shall not show.
        out = smooth(self.output(hidden, time, grid), 1, _ROWS_AND_COLUMNS)
        size = (*out.shape[:2], *sources.shape[2:4], out.shape[-1])
        out = jax.image.resize(out, size, "linear")
        gates, painted, trust = out[..., :GATES], out[..., GATES:-1], out[..., -1] - _DOUBT

        valid = source_valid[:, :, None, None]
        sources = jnp.where(valid[..., None], sources, 0.0)
        luma, chroma = to_luma_chroma(sources)
        bands = decompose(luma)
        features = _features(luma, bands, chroma, valid)

        # (B, K, n, H, W, .): each draw's tokens beside each source.
        x = self.of_source(features)[:, None] + self.of_tokens(gates)[:, :, None]
        x = jax.nn.silu(self.hidden(jax.nn.silu(x)))
        answers = self.weigh(x).astype(jnp.float32)
        shares, strengths, lift = jnp.split(answers, [_PARTS, 2 * _PARTS], axis=-1)
        shares = jnp.where(valid[:, None, ..., None], shares, _NEVER)
        strengths = 2 * jax.nn.sigmoid(strengths)

        # Source by source: they are few, and XLA sums over a short axis inside slowly on CPUs.
        count = sources.shape[1]
        rivals = [shares[:, :, k] for k in range(count)]
        of_detail = _softmax([x[..., :LEVELS] for x in rivals])
        # The painting stands last; it has no detail.
        doubt = jnp.stack([trust] * 2, axis=-1)
        *of_rest, of_painting = _softmax([*(x[..., LEVELS:] for x in rivals), doubt])
        paint_luma, paint_chroma = to_luma_chroma(painted)
        fused = of_painting[..., 0] * paint_luma
        colour = of_painting[..., 1:] * paint_chroma
        for k in range(count):
            strength, rest = strengths[:, :, k], of_rest[k]
            smooth_rest = strength[..., LEVELS] * bands[LEVELS][:, None, k]
            fused += rest[..., 0] * (smooth_rest + lift[:, :, k, ..., 0])
            for level in range(LEVELS):
                weight = of_detail[k][..., level] * strength[..., level]
                fused += weight * bands[level][:, None, k]
            colour += rest[..., 1:] * strength[..., -1:] * chroma[:, None, k]
        return to_rgb(fused, colour)


def _softmax(logits: list[jax.Array]) -> list[jax.Array]:
    """Over the members of a list."""
    peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, logits))
    powers = [jnp.exp(x - peak) for x in logits]
    total = functools.reduce(jnp.add, powers)
    return [power / total for power in powers]


def cells_per_side(config: ModelConfig) -> int:
    """Places along a patch's side for which tokens say how to weigh; between them it is smooth."""
    return max(1, config.patch_size // _CELL)


def _features(
    luma: jax.Array, bands: list[jax.Array], chroma: jax.Array, valid: jax.Array
) -> jax.Array:
    """What the network sees of every source at every pixel, of order one.

    Args:
      luma: (B, n, H, W), zero where a source is absent.
      bands: of it.
      chroma: (B, n, H, W, 2).
      valid: (B, n, 1, 1).

    Returns:
      (B, n, H, W, F).
    """
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)

    def beside_others(strength: jax.Array) -> jax.Array:
        total = jnp.sum(strength * valid, axis=1, keepdims=True)
        return strength / (total + _QUIET) - 1 / count

    *details, low = bands
    strengths = activity(details)
    saturation = jnp.sqrt(jnp.sum(jnp.square(chroma), axis=-1) + 1e-6)
    return jnp.stack(
        [
            *(2 * beside_others(strength) for strength in strengths),
            *(jnp.log(strength + _QUIET) / 2 + 1.5 for strength in strengths),
            luma,
            low,
            low - jnp.sum(low, axis=1, keepdims=True) / count,
            2 * beside_others(saturation),
            saturation,
        ],
        axis=-1,
    )
