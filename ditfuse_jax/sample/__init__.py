"""Making images with a trained model."""

from ditfuse_jax.sample.files import fuse, read_prompts
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained

__all__ = [
    "FusionInput",
    "StackFuser",
    "TrainedModel",
    "WeightedAdapter",
    "fuse",
    "load_trained",
    "read_prompts",
]
