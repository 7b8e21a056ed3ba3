"""A head that blends the sources and a generated image with per-pixel weights."""

import jax
import jax.numpy as jnp

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.checks import require_pixels
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.heads.head import Head
from ditfuse_jax.model.rngs import Rngs


class BlendHead(Head):
    """Predicts, for each pixel, weights of the sources and of a generated image.

    The weights are a softmax over the valid sources and the generated image, so a source with
    weight 1 is copied exactly and the generated image can replace all sources.
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
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
        logits, generated = out[..., : -self.channels], out[..., -self.channels :]
        count = sources.shape[1]
        logits = jnp.concatenate([logits[..., :count], logits[..., -1:]], axis=-1)
        valid = jnp.pad(source_valid, ((0, 0), (0, 1)), constant_values=True)
        weights = jax.nn.softmax(jnp.where(valid[:, None, None, None], logits, -jnp.inf), axis=-1)
        # With lower precision a source of weight 1 would not be copied exactly.
        blended = jnp.einsum(
            "bkhwn,bnhwc->bkhwc",
            weights[..., :count],
            sources,
            precision=jax.lax.Precision.HIGHEST,
        )
        return blended + weights[..., count:] * generated

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        require_pixels(config)

    @classmethod
    def outputs_per_token(cls, config: ModelConfig) -> int:
        return config.patch_size**2 * (config.max_images + 1 + config.channels)
