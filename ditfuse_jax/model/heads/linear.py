"""The original head."""

import jax
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.final_layer import FinalLayer


class LinearHead(nnx.Module):
    """The original head: the output layer is the prediction."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.output = FinalLayer(config, config.channels, rngs=rngs)

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """See `Head`."""
        del sources, source_valid
        return self.output(hidden, time, grid)
