"""A trained model, ready to be used: parameters and what is needed to run them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from ditfuse_jax.parallel import MeshConfig, Sharder, make_mesh, shard_like
from ditfuse_jax.train.checkpoint import Checkpoints, find_checkpoint
from ditfuse_jax.train.recipe import Recipe, resolve
from ditfuse_jax.train.state import make_graph


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Attributes:
    graph: the model's structure, with the text slots of sampling.
    parameters: nested dict of arrays.
    recipe: what it was trained with; its sampling settings are the defaults.
    name: where it comes from, for metadata and reports.
    """

    graph: nnx.GraphDef
    parameters: Any
    recipe: Recipe
    name: str


def load_trained(path: Path | str) -> TrainedModel:
    """Loads a run folder's newest checkpoint, or one step folder in it.

    The averaged parameters are used where the run kept them.

    Raises:
      UserError: no checkpoint there, or it does not fit its own config.
    """
    run, step = find_checkpoint(Path(path))
    checkpoints = Checkpoints(run, read_only=True)
    try:
        recipe = resolve(checkpoints.config(step))
        abstract = abstract_parameters(recipe)
        parameters, _ = checkpoints.restore_parameters(step, abstract)
    finally:
        checkpoints.close()
    return trained_model(parameters, recipe, f"{run.name}, step {step}")


def trained_model(parameters: Any, recipe: Recipe, name: str) -> TrainedModel:
    """Wraps parameters that are in memory (evaluation during training)."""
    model = dataclasses.replace(recipe.model, text_slots=recipe.sampling.text_slots)
    model.check_pixels()
    return TrainedModel(make_graph(model)[0], parameters, recipe, name)


def abstract_parameters(recipe: Recipe) -> Any:
    """Shapes of the parameters, all on the first device of this process."""
    sharder = Sharder(make_mesh(MeshConfig(), jax.local_devices()[:1]))
    _, state = make_graph(recipe.model)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(state))
    return shard_like(shapes, sharder.parameters(state))
