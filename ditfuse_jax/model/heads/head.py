"""The interface of output heads."""

from collections.abc import Mapping

import jax
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.rngs import Rngs


class Head(nnx.Module):
    """Turns the target tokens' hidden states into the prediction.

    A subclass creates `output`, a `FinalLayer`, in its constructor, which takes `(config, rngs=)`.
    """

    output: FinalLayer

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        raise NotImplementedError

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """Predicts K images for each of B conditions.

        Args:
          hidden: (B, K, P, D) hidden states of the target tokens.
          time: (B, K, D) timestep embedding.
          sources: (B, n, H, W, C) condition images.
          source_valid: (B, n) False where a source is absent.
          grid: rows and columns of the P tokens.

        Returns:
          (B, K, H, W, C) float32.
        """
        raise NotImplementedError

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        """Raises a `UserError` if the head does not support the model."""

    @classmethod
    def outputs_per_token(cls, config: ModelConfig) -> int:
        """Number of values that the final layer computes for each target token; counts FLOPs."""
        raise NotImplementedError

    @classmethod
    def pixel_layers(cls) -> Mapping[str, tuple[int, int, bool]]:
        """Linear layers that the head applies to every pixel; counts the FLOPs of adapters.

        Returns:
          Attribute name -> inputs, outputs, and whether it is applied once per source.
        """
        return {}
