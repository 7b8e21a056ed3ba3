"""Training: recipe, state, step, loop, checkpoints, records."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.train.best import Criterion
    from ditfuse_jax.train.checkpoint import Checkpoints
    from ditfuse_jax.train.distill import distill_from
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
    "distill_from",
    "find_checkpoint",
    "load_recipe",
    "make_evaluations",
    "resolve",
    "train",
]

# Some modules of this package are used without JAX.
__getattr__ = lazy_attributes(
    __name__,
    {
        "CALLBACKS": "ditfuse_jax.train.evaluations",
        "EVALUATORS": "ditfuse_jax.train.evaluations",
        "WRITERS": "ditfuse_jax.train.writers",
        "Callback": "ditfuse_jax.train.evaluations",
        "Checkpoints": "ditfuse_jax.train.checkpoint",
        "Criterion": "ditfuse_jax.train.best",
        "EvalContext": "ditfuse_jax.train.evaluations",
        "Evaluation": "ditfuse_jax.train.evaluations",
        "Evaluator": "ditfuse_jax.train.evaluations",
        "Outcome": "ditfuse_jax.train.loop",
        "Recipe": "ditfuse_jax.train.settings",
        "TrainState": "ditfuse_jax.train.state",
        "Writer": "ditfuse_jax.train.writers",
        "default_config": "ditfuse_jax.train.recipe",
        "distill_from": "ditfuse_jax.train.distill",
        "find_checkpoint": "ditfuse_jax.weights.run_paths",
        "load_recipe": "ditfuse_jax.train.recipe",
        "make_evaluations": "ditfuse_jax.train.evaluations",
        "resolve": "ditfuse_jax.train.settings",
        "train": "ditfuse_jax.train.loop",
    },
)
