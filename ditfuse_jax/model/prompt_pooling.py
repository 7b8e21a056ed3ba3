"""Pooling of the prompt's tokens to one vector that is added to the target tokens."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, RMSNorm
from ditfuse_jax.model.rngs import Rngs


class PromptPooling(nnx.Module):
    """Multi-head attention pooling of the token embeddings, without positions.

    Every head computes a weighted mean of the tokens; the weights depend on the tokens alone.
    Without pooling, the prompt reaches the target through attention only, which a small model
    learns slowly from few examples.  SDXL adds a pooled text embedding in the same way (Podell et
    al. 2023).
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        width, heads = config.hidden_size, config.num_heads

        def linear(outputs: tuple[int, ...], **kwargs) -> Linear:
            axes = ("embed", *(None,) * len(outputs))
            return Linear((width,), outputs, axes, rngs=rngs, dtype=config.dtype, **kwargs)

        self.norm = RMSNorm(width, eps=config.rms_norm_eps, dtype=config.dtype)
        self.weigh = linear((heads,), zero=True)
        self.value = linear((heads, config.head_dim))
        self.out = linear((width,), bias=True)

    def __call__(self, texts: jax.Array, valid: jax.Array) -> jax.Array:
        """Pools the valid tokens.

        Args:
          texts: (B, T, D) embedded tokens.
          valid: (B, T) False for padding.

        Returns:
          (B, D).
        """
        x = self.norm(texts)
        logits = self.weigh(x).astype(jnp.float32)
        weights = jax.nn.softmax(logits, axis=1, where=valid[..., None])
        pooled = jnp.sum(weights[..., None] * self.value(x).astype(jnp.float32), axis=1)
        return self.out(jax.nn.silu(pooled.reshape(pooled.shape[0], -1)))
