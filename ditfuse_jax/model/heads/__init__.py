"""Output heads: from hidden states of the target tokens to the prediction.

`linear` is OmniGen's: one value per channel.  The others are for models on pixels and copy detail
from the sources instead of generating it: `blend` weights the sources' pixels, `bands` weights
their frequency bands.  Other modules add a head with `HEADS.register(name)`.
"""

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads.bands import BandsHead
from ditfuse_jax.model.heads.blend import BlendHead
from ditfuse_jax.model.heads.head import Head
from ditfuse_jax.model.heads.linear import LinearHead
from ditfuse_jax.model.rngs import Rngs
from ditfuse_jax.registry import Registry

__all__ = ["HEADS", "Head", "make_head"]

HEADS: Registry[type[Head]] = Registry(
    "model.head", {"linear": LinearHead, "blend": BlendHead, "bands": BandsHead}
)


def make_head(config: ModelConfig, *, rngs: Rngs) -> Head:
    """Builds the head that `config.head` names."""
    return HEADS.find(config.head)(config, rngs=rngs)
