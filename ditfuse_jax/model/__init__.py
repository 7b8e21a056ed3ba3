"""The fusion transformer: layout, attention, layers, heads, adapters, autoencoder, presets."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes
from ditfuse_jax.model.condition import Condition, EncodedCondition
from ditfuse_jax.model.config import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.presets import PRESETS, preset

if TYPE_CHECKING:
    from ditfuse_jax.model.ditfuse import DiTFuse

__all__ = [
    "PRESETS",
    "RUNTIME_FIELDS",
    "Condition",
    "DiTFuse",
    "EncodedCondition",
    "Layout",
    "ModelConfig",
    "preset",
]

# Its module imports Flax, which a command whose programs are kept does not need.
__getattr__ = lazy_attributes(__name__, {"DiTFuse": "ditfuse_jax.model.ditfuse"})
