"""Training: recipe, state, step, loop, checkpoints, records."""

from ditfuse_jax.train.best import Criterion
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.evaluations import (
    CALLBACKS,
    EVALUATORS,
    Callback,
    EvalContext,
    Evaluation,
    Evaluator,
    make_evaluations,
)
from ditfuse_jax.train.loop import Outcome, train
from ditfuse_jax.train.recipe import default_config, load_recipe
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.train.state import TrainState
from ditfuse_jax.train.writers import WRITERS, Writer
from ditfuse_jax.weights.run_paths import find_checkpoint

__all__ = [
    "CALLBACKS",
    "EVALUATORS",
    "WRITERS",
    "Callback",
    "Checkpoints",
    "Criterion",
    "EvalContext",
    "Evaluation",
    "Evaluator",
    "Outcome",
    "Recipe",
    "TrainState",
    "Writer",
    "default_config",
    "find_checkpoint",
    "load_recipe",
    "make_evaluations",
    "resolve",
    "train",
]
