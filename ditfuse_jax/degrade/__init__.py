"""What training does to clean images: degradations by block, pseudo-targets."""

from ditfuse_jax.degrade.m3 import PRESETS, Block, M3Config, M3Views, degrade_views
from ditfuse_jax.degrade.pseudo_target import PSEUDO_TARGETS
from ditfuse_jax.degrade.registry import OPERATIONS

__all__ = [
    "OPERATIONS",
    "PRESETS",
    "PSEUDO_TARGETS",
    "Block",
    "M3Config",
    "M3Views",
    "degrade_views",
]
