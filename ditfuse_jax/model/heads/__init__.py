"""Output heads: from hidden states of the target tokens to the prediction.

`linear` is OmniGen's: one value per channel.  The others are for models on pixels and copy detail
from the sources instead of generating it: `blend` weights the sources' pixels, `bands` weights
their frequency bands.  Other modules add a head with `HEADS.register(name)`.
"""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes
from ditfuse_jax.model.heads.checks import CHECKS
from ditfuse_jax.registry import Registry

if TYPE_CHECKING:
    from ditfuse_jax.model.config import ModelConfig
    from ditfuse_jax.model.heads.head import Head
    from ditfuse_jax.model.rngs import Rngs

__all__ = ["HEADS", "Head", "check_head", "is_of_this_package", "make_head"]

# Its module imports Flax, which a command whose programs are kept does not need.
__getattr__ = lazy_attributes(__name__, {"Head": "ditfuse_jax.model.heads.head"})


def _heads() -> "dict[str, type[Head]]":
    from ditfuse_jax.model.heads.bands import BandsHead
    from ditfuse_jax.model.heads.blend import BlendHead
    from ditfuse_jax.model.heads.linear import LinearHead

    return {"linear": LinearHead, "blend": BlendHead, "bands": BandsHead}


HEADS: "Registry[type[Head]]" = Registry("model.head", _heads)


def is_of_this_package(name: str) -> bool:
    """Returns whether a head is one of this package, without importing it."""
    return name in CHECKS


def check_head(config: "ModelConfig") -> None:
    """Checks that the head that `config.head` names exists and supports the model.

    Raises:
      UserError: it does not.
    """
    CHECKS.get(config.head, lambda config: HEADS.find(config.head).check(config))(config)


def make_head(config: "ModelConfig", *, rngs: "Rngs") -> "Head":
    """Builds the head that `config.head` names."""
    return HEADS.find(config.head)(config, rngs=rngs)
