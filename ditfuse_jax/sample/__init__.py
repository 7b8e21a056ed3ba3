"""Making images with a trained model."""

from ditfuse_jax.sample.files import fuse, read_prompts
from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.region import RegionInput, fuse_in_regions, region_weights
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
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
    "fuse_in_regions",
    "load_trained",
    "read_prompts",
    "region_weights",
]
