"""Making images with a trained model."""

from ditfuse_jax.sample.files import fuse
from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput
from ditfuse_jax.sample.planned_outputs import read_prompts
from ditfuse_jax.sample.region import region_weights
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained

__all__ = [
    "Fused",
    "Fuser",
    "FusionInput",
    "RegionInput",
    "StackFuser",
    "TrainedModel",
    "WeightedAdapter",
    "fuse",
    "load_trained",
    "read_prompts",
    "region_weights",
]
