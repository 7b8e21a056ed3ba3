"""A trained model, ready to be used: parameters and what is needed to run them."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import combine_trees, merge_lora
from ditfuse_jax.model.network import Parameters, make_graph
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import MeshConfig, Sharder, make_mesh
from ditfuse_jax.parallel.abstract import abstract_adapter, abstract_model
from ditfuse_jax.train.base import (
    carried,
    load_base,
    load_space,
    open_adapter,
    start_from,
)
from ditfuse_jax.train.recipe import default_config
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.weights import (
    find_bundle,
    is_adapter,
    is_bundle,
    is_weights,
    open_bundle,
    read_bundle,
)
from ditfuse_jax.weights.run_paths import find_checkpoint, is_run
from ditfuse_jax.weights.run_reader import RunReader


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Attributes:
    graph: the model's structure, with the text slots of sampling.
    parameters: nested dict of arrays.
    space: pixels or latents.
    autoencoder: its parameters; empty for a model on pixels.
    recipe: what it was trained with; its sampling settings are the defaults.
    name: where it comes from, for metadata and reports.
    """

    graph: nnx.GraphDef
    parameters: Parameters
    space: Space
    autoencoder: Parameters
    recipe: Recipe
    name: str


@dataclasses.dataclass(frozen=True)
class WeightedAdapter:
    """An adapter to merge: its folder (PEFT's, or a run that trained one) and its share."""

    folder: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "WeightedAdapter":
        """Reads `FOLDER` or `FOLDER=WEIGHT`.

        Raises:
          UserError: the weight is no number.
        """
        folder, sign, weight = text.rpartition("=")
        if not sign or Path(text).exists():
            return cls(Path(text))
        try:
            share = float(weight)
        except ValueError:
            share = math.nan
        if not math.isfinite(share):
            raise UserError(f"adapter {text!r}: the weight {weight!r} is no number")
        return cls(Path(folder), share)


def load_trained(
    path: Path | str, adapters: Sequence[WeightedAdapter] = (), base: Path | str | None = None
) -> TrainedModel:
    """Loads a model to be used.

    Args:
      path: `small`, the bundled model; a run folder (its newest checkpoint), one of its step
        folders, a box of another model, or weights in OmniGen's or diffusers' layout.  Averaged
        parameters are used where a run kept them.
      adapters: merged into the weights, each with its share.
      base: where the weights under a run's adapters are now, if they were moved.

    Raises:
      UserError: no checkpoint there, or it does not fit its own config or the adapters.
    """
    path = find_bundle(path)
    sharder = Sharder(make_mesh(MeshConfig(), jax.local_devices()[:1]))
    if is_run(path):
        recipe, parameters, name = _load_run(path, base, sharder)
    elif is_bundle(path):
        config, tensors = open_bundle(path)
        recipe, name = resolve(config), path.name
        parameters = read_bundle(tensors, abstract_model(recipe.model, sharder, frozen=True))
    elif is_adapter(path):
        raise UserError(
            f"{path} is an adapter: give the weights under it with --checkpoint, and it with --lora"
        )
    elif not is_weights(path):
        raise UserError(
            f"no checkpoint in {path}: give a run folder of `ditfuse train`, or weights in "
            "OmniGen's layout"
        )
    else:
        config = default_config("omnigen")
        start_from(config, str(path))
        recipe, name = resolve(config), path.name
        parameters = load_base(recipe, sharder)
    for adapter in adapters:
        lora, leaves = open_adapter(adapter.folder, recipe.model)
        parameters = merge_lora(parameters, leaves, lora.scaling * adapter.weight)
    space, autoencoder = load_space(recipe)
    return trained_model(parameters, space, autoencoder, recipe, name)


def trained_model(
    parameters: Parameters, space: Space, autoencoder: Parameters, recipe: Recipe, name: str
) -> TrainedModel:
    """Wraps parameters that are in memory (evaluation during training)."""
    model = dataclasses.replace(recipe.model, text_slots=recipe.sampling.text_slots)
    network = dataclasses.replace(recipe.network, model=model)
    return TrainedModel(make_graph(network)[0], parameters, space, autoencoder, recipe, name)


def _load_run(
    path: Path, base: Path | str | None, sharder: Sharder
) -> tuple[Recipe, Parameters, str]:
    run, step = find_checkpoint(path)
    checkpoints = RunReader(run)
    try:
        config = carried(run, checkpoints.config(step))
        if base:
            config = _moved(config, str(base))
        recipe = resolve(config)
        if recipe.lora is None:
            abstract = abstract_model(recipe.model, sharder, frozen=True)
            parameters = checkpoints.read_model(step, abstract)
        else:
            if not Path(recipe.weights).exists():
                raise UserError(
                    f"{run} adapts the weights in {recipe.weights}, which are not there any more: "
                    "say with --base where they are"
                )
            adapter = checkpoints.read_model(step, abstract_adapter(recipe.network, sharder))
            parameters = combine_trees(load_base(recipe, sharder), adapter)
    finally:
        checkpoints.close()
    return recipe, parameters, f"{run.name}, step {step}"


def _moved(config: dict[str, Any], base: str) -> dict[str, Any]:
    """A checkpoint's config with weights, autoencoder and tokenizer in another folder."""
    found = default_config("omnigen")
    start_from(found, base)
    data = config["data"] | {"tokenizer": found.data.tokenizer}
    return config | {"weights": found.weights, "autoencoder": found.autoencoder, "data": data}
