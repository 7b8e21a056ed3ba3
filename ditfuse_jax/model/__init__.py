"""The fusion transformer: layout, attention, layers, heads, adapters, autoencoder, presets."""

from ditfuse_jax.model.config import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.ditfuse import Condition, DiTFuse, EncodedCondition
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.presets import PRESETS, preset

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
