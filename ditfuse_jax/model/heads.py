"""Tokens to images: the modulated output layer and what its channels mean.

A head turns the target's hidden states into the prediction.  `linear` is the original: one value
per channel.  `blend` is for pixel models: per-pixel weights over the sources and a painting, so
that detail is copied rather than drawn again.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, layer_norm
from ditfuse_jax.model.patches import unpatchify


class OutputLayer(nnx.Module):
    """LayerNorm, shift and scale from the time, linear map to patches (Peebles and Xie 2023)."""

    def __init__(self, config: ModelConfig, channels: int, *, rngs: nnx.Rngs):
        width, patch, dtype = config.hidden_size, config.patch_size, config.dtype
        self.modulation = Linear(
            (width,),
            (2, width),
            ("embed", None, None),
            rngs=rngs,
            dtype=dtype,
            bias=True,
            zero=True,
        )
        self.linear = Linear(
            (width,),
            (patch, patch, channels),
            ("embed", None, None, None),
            rngs=rngs,
            dtype=dtype,
            bias=True,
            zero=True,
        )

    def __call__(self, hidden: jax.Array, time: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Hidden states (B, K, P, D) and time embedding (B, K, D) -> (B, K, H, W, channels)."""
        modulation = self.modulation(jax.nn.silu(time))[:, :, None].astype(jnp.float32)
        shift, scale = modulation[..., 0, :], modulation[..., 1, :]
        x = layer_norm(hidden) * (1 + scale) + shift
        return unpatchify(self.linear(x), grid).astype(jnp.float32)


class LinearHead(nnx.Module):
    """The original head: the output layer is the prediction."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.output = OutputLayer(config, config.channels, rngs=rngs)

    def __call__(self, hidden, time, sources, source_valid, grid) -> jax.Array:
        """See `make_head`."""
        del sources, source_valid
        return self.output(hidden, time, grid)


class BlendHead(nnx.Module):
    """Weights, per pixel, the sources and one more candidate that it paints itself.

    The weights are a softmax over the valid sources and the painting: where a source is trusted its
    pixels come through exactly, where none is the painting stands alone.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.channels = config.channels
        self.output = OutputLayer(config, config.max_images + 1 + config.channels, rngs=rngs)

    def __call__(self, hidden, time, sources, source_valid, grid) -> jax.Array:
        """See `make_head`."""
        out = self.output(hidden, time, grid)
        logits, painted = out[..., : -self.channels], out[..., -self.channels :]
        count = sources.shape[1]
        logits = jnp.concatenate([logits[..., :count], logits[..., -1:]], axis=-1)
        valid = jnp.pad(source_valid, ((0, 0), (0, 1)), constant_values=True)
        weights = jax.nn.softmax(jnp.where(valid[:, None, None, None], logits, -jnp.inf), axis=-1)
        # In full precision, or a trusted source would not come through exactly.
        blended = jnp.einsum(
            "bkhwn,bnhwc->bkhwc",
            weights[..., :count],
            sources,
            precision=jax.lax.Precision.HIGHEST,
        )
        return blended + weights[..., count:] * painted


def make_head(config: ModelConfig, *, rngs: nnx.Rngs) -> LinearHead | BlendHead:
    """Builds the head a config names.

    A head maps hidden states (B, K, P, D), the time embedding (B, K, D), the sources
    (B, n, H, W, C) with their validity (B, n), and the grid to the prediction (B, K, H, W, C),
    float32.
    """
    heads = {"linear": LinearHead, "blend": BlendHead}
    if config.head not in heads:
        raise UserError(f"head {config.head!r} is unknown; choose from {', '.join(heads)}")
    return heads[config.head](config, rngs=rngs)
