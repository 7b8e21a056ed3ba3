"""The modulated final layer: hidden states to values per place."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, layer_norm
from ditfuse_jax.model.patches import unpatchify
from ditfuse_jax.model.rngs import Rngs


class FinalLayer(nnx.Module):
    """LayerNorm, shift and scale by the timestep, linear map to patches.

    This is DiT's final layer (Peebles and Xie 2023).

    Args:
      config: sizes and computation type.
      channels: values per place.
      side: places along the side of a patch, by default one per pixel (or latent).
    """

    def __init__(self, config: ModelConfig, channels: int, *, rngs: Rngs, side: int | None = None):
        width, dtype = config.hidden_size, config.dtype
        side = side or config.patch_size
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
            (side, side, channels),
            ("embed", None, None, None),
            rngs=rngs,
            dtype=dtype,
            bias=True,
            zero=True,
        )

    def __call__(self, hidden: jax.Array, time: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Computes the values of all places.

        Args:
          hidden: (B, K, P, D) hidden states.
          time: (B, K, D) timestep embedding.
          grid: rows and columns of the P tokens.

        Returns:
          (B, K, rows * side, columns * side, channels) float32.
        """
        modulation = self.modulation(jax.nn.silu(time))[:, :, None].astype(jnp.float32)
        shift, scale = modulation[..., 0, :], modulation[..., 1, :]
        x = layer_norm(hidden) * (1 + scale) + shift
        return unpatchify(self.linear(x), grid).astype(jnp.float32)
