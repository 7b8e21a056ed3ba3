"""Per-pixel weights over the sources and a painting."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.final_layer import FinalLayer


class BlendHead(nnx.Module):
    """Weights, per pixel, the sources and one more candidate that it paints itself.

    The weights are a softmax over the valid sources and the painting: where a source is trusted its
    pixels come through exactly, where none is the painting stands alone.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.channels = config.channels
        self.output = FinalLayer(config, config.max_images + 1 + config.channels, rngs=rngs)

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """See `Head`."""
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
