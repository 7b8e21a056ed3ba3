"""Making images with a trained model."""

from ditfuse_jax.sample.files import fuse, read_prompts
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained

__all__ = [
    "Fuser",
    "FusionInput",
    "TrainedModel",
    "WeightedAdapter",
    "fuse",
    "load_trained",
    "read_prompts",
]
