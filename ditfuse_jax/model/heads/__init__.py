"""Tokens to images: what the transformer's hidden states mean as a prediction.

`linear` is the original: one value per channel.  The others are for pixel models and copy detail
from the sources rather than draw it again: `blend` weighs the sources' pixels, `bands` weighs their
frequency bands apart.  A new head is one file and one line in `HEADS`.
"""

from typing import Protocol

import jax
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.bands import BandsHead
from ditfuse_jax.model.heads.blend import BlendHead
from ditfuse_jax.model.heads.linear import LinearHead


class Head(Protocol):
    """Turns the target's hidden states into the prediction."""

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
          hidden: (B, K, P, D) of the target's tokens.
          time: (B, K, D) embedding of the time.
          sources: (B, n, H, W, C) condition images.
          source_valid: (B, n) False where one is absent.
          grid: rows and columns of the P tokens.

        Returns:
          (B, K, H, W, C) float32.
        """
        ...


HEADS = {"linear": LinearHead, "blend": BlendHead, "bands": BandsHead}


def make_head(config: ModelConfig, *, rngs: nnx.Rngs) -> Head:
    """Builds the head a config names; `config.HEADS` lists the names."""
    return HEADS[config.head](config, rngs=rngs)
