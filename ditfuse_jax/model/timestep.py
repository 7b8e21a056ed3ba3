"""Embedding of the timestep."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.rngs import Rngs

NUM_FEATURES = 256
_MAX_PERIOD = 10000.0


def timestep_features(t: jax.Array) -> jax.Array:
    """Computes sinusoidal features of times: (...) in [0, 1] -> (..., 256) float32.

    Cosines come first, then sines, as in OmniGen and DiT.
    """
    half = NUM_FEATURES // 2
    frequencies = np.exp(-np.log(_MAX_PERIOD) * np.arange(half, dtype=np.float32) / half)
    angles = t.astype(jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepMLP(nnx.Module):
    """Linear, SiLU, linear (diffusers' `TimestepEmbedding`)."""

    def __init__(self, size: int, *, rngs: Rngs, dtype: str):
        self.inner = Linear(
            (NUM_FEATURES,), (size,), (None, "embed"), rngs=rngs, dtype=dtype, bias=True
        )
        self.outer = Linear((size,), (size,), ("mlp", "embed"), rngs=rngs, dtype=dtype, bias=True)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps (..., 256) to (..., D)."""
        return self.outer(jax.nn.silu(self.inner(features)))
