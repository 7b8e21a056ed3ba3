"""Per-pixel weights over the frequency bands of the sources, and a painting on top."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.bands import LEVELS, activity, decompose, smooth, to_luma_chroma, to_rgb
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.output import OutputLayer
from ditfuse_jax.model.layers import Linear

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
        self.output = OutputLayer(config, channels, rngs=rngs, side=side)
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
        present = valid[:, None, ..., None]
        shares = jnp.where(present, shares, -jnp.inf)
        # The painting stands last; it has no detail.
        rivals = jnp.stack([jnp.full_like(trust, -1e9)] * LEVELS + [trust] * 2, axis=-1)
        shares = jax.nn.softmax(jnp.concatenate([shares, rivals[:, :, None]], axis=2), axis=2)
        shares, of_painting = shares[:, :, :-1], shares[:, :, -1]
        weights = shares * 2 * jax.nn.sigmoid(strengths)

        paint_luma, paint_chroma = to_luma_chroma(painted)
        fused = of_painting[..., LEVELS] * paint_luma
        fused += jnp.sum(shares[..., LEVELS] * lift[..., 0], axis=2)
        for part, band in enumerate(bands):
            fused += jnp.sum(weights[..., part] * band[:, None], axis=2)
        colour = jnp.sum(weights[..., -1:] * chroma[:, None], axis=2)
        return to_rgb(fused, colour + of_painting[..., -1:] * paint_chroma)


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
