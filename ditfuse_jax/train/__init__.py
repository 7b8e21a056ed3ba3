"""Training: recipe, state, step, loop, checkpoints, records."""

from ditfuse_jax.train.best import Criterion
from ditfuse_jax.train.checkpoint import Checkpoints, Position
from ditfuse_jax.train.loop import EvalContext, Outcome, train
from ditfuse_jax.train.recipe import default_config, load_recipe
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.train.state import TrainState
from ditfuse_jax.weights.run_paths import find_checkpoint

__all__ = [
    "Checkpoints",
    "Criterion",
    "EvalContext",
    "Outcome",
    "Position",
    "Recipe",
    "TrainState",
    "default_config",
    "find_checkpoint",
    "load_recipe",
    "resolve",
    "train",
]
