"""The prompt as one vector: a short way from its words to the target."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, RMSNorm


class PromptPooling(nnx.Module):
    """Every head takes a mean of the tokens, weighed by what they are, not by where they stand.

    In the sequence words reach the target through attention alone, which a small model is slow to
    learn from few examples: pictures tell it nearly everything.  The mean reaches every target
    token at once, as the pooled text of SDXL does (Podell et al. 2023).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, heads = config.hidden_size, config.num_heads

        def linear(outputs: tuple[int, ...], **kwargs) -> Linear:
            axes = ("embed", *(None,) * len(outputs))
            return Linear((width,), outputs, axes, rngs=rngs, dtype=config.dtype, **kwargs)

        self.norm = RMSNorm(width, eps=config.rms_norm_eps, dtype=config.dtype)
        self.weigh = linear((heads,), zero=True)
        self.value = linear((heads, config.head_dim))
        self.out = linear((width,), bias=True)

    def __call__(self, texts: jax.Array, valid: jax.Array) -> jax.Array:
        """Embedded tokens (B, T, D), of which those `valid` (B, T) count -> (B, D)."""
        x = self.norm(texts)
        logits = self.weigh(x).astype(jnp.float32)
        weights = jax.nn.softmax(logits, axis=1, where=valid[..., None])
        pooled = jnp.sum(weights[..., None] * self.value(x).astype(jnp.float32), axis=1)
        return self.out(jax.nn.silu(pooled.reshape(pooled.shape[0], -1)))
