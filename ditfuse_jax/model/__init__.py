"""The transformer: fixed slots, attention, fronts and heads, presets."""

from ditfuse_jax.model.config import HOW_IT_RUNS, ModelConfig
from ditfuse_jax.model.ditfuse import Condition, DiTFuse, Encoded
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.presets import PRESETS, preset

__all__ = [
    "HOW_IT_RUNS",
    "PRESETS",
    "Condition",
    "DiTFuse",
    "Encoded",
    "Layout",
    "ModelConfig",
    "preset",
]
