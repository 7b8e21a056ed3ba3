"""OmniGen's head."""

import jax

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.final_layer import FinalLayer
from ditfuse_jax.model.heads.head import Head
from ditfuse_jax.model.rngs import Rngs


class LinearHead(Head):
    """The final layer's output is the prediction (OmniGen, arXiv 2409.11340)."""

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        self.output = FinalLayer(config, config.channels, rngs=rngs)

    def __call__(
        self,
        hidden: jax.Array,
        time: jax.Array,
        sources: jax.Array,
        source_valid: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """See `Head`; the sources are not used."""
        del sources, source_valid
        return self.output(hidden, time, grid)

    @classmethod
    def outputs_per_token(cls, config: ModelConfig) -> int:
        return config.patch_size**2 * config.channels
