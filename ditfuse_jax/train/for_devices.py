"""Settings of a recipe that are chosen for the devices: `model.attention` and `model.remat`.

A run's config records what was chosen.  A run that continues chooses anew from its recipe, so it
may continue on devices of another kind.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax

from ditfuse_jax.model.attention import auto
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.model.remat import AUTO
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.parallel.device_memory import memory_limit
from ditfuse_jax.pipeline import DataPipeline
from ditfuse_jax.train.choose_remat import choose_remat
from ditfuse_jax.train.compile import compile_step
from ditfuse_jax.train.memory import StepMemory
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen, TrainState
from ditfuse_jax.train.step import make_train_step


def with_attention(recipe: Recipe, device: Any) -> tuple[Recipe, list[str]]:
    """Replaces `model.attention=auto` by the implementation for a device.

    Returns:
      The recipe and lines that say what was chosen.
    """
    model = recipe.model
    if model.attention != auto.AUTO:
        return recipe, []
    choice = auto.choose_attention(device, model.dtype, model.head_dim)
    line = f"model.attention=auto: {choice.name} ({choice.reason})"
    return _with_model(recipe, attention=choice.name), [line]


def with_remat(
    recipe: Recipe,
    partitioner: Partitioner,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    space: Space,
    frozen: Frozen,
    batch: Mapping[str, Any] | None = None,
) -> tuple[Recipe, list[str], dict[tuple[int, ...], Any]]:
    """Replaces `model.remat=auto` by the policy with the least recomputation that fits.

    Args:
      recipe: the run's.
      partitioner: of its mesh.
      optimizer: see `make_optimizer`.
      abstract: the state.
      space: pixels or latents.
      frozen: what the step reads and never changes.
      batch: of the largest shape; `largest_batch` by default.

    Returns:
      The recipe, lines that say what was chosen, and the step that was compiled for it, if one was,
      by the shape of the batch's targets.

    Raises:
      UserError: no policy fits the devices, or there is no example to take the batch's shape from.
    """
    if recipe.model.remat != AUTO:
        return recipe, [], {}
    limit = memory_limit(partitioner.mesh.devices.flat)
    arrays = batch
    if limit is not None and arrays is None:
        arrays = largest_batch(recipe.data, partitioner)

    def at_least(name: str) -> int:
        assert arrays is not None
        named = _with_model(recipe, remat=name)
        memory = StepMemory.of(least_saved(named), partitioner, abstract, frozen, arrays)
        return sum(memory.arguments.values()) + memory.saved

    def compile_with(name: str) -> Any:
        assert arrays is not None
        graph, _ = make_graph(_with_model(recipe, remat=name).network)
        step = make_train_step(graph, optimizer, recipe.step, partitioner, space)
        options = recipe.train.compiler_options
        return compile_step(step, partitioner, abstract, frozen, arrays, options)

    choice = choose_remat(compile_with, limit, at_least)
    line = f"model.remat=auto: {choice.name} ({choice.reason})"
    compiled = {arrays["target"].shape: choice.compiled} if arrays and choice.compiled else {}
    return _with_model(recipe, remat=choice.name), [line], compiled


def least_saved(recipe: Recipe) -> Recipe:
    """Returns a recipe whose layers save at least as little as this one's, by name.

    What `none` saves has no names, but it is at least what `projections` saves.
    """
    return _with_model(recipe, remat="projections") if recipe.model.remat == "none" else recipe


def largest_batch(data: DataPipeline, partitioner: Partitioner) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns an abstract batch of the largest shape, from the first example of the data.

    Raises:
      UserError: see `DataPipeline.examples`.
    """
    example: Any = data.examples()[0]
    shapes = {name: (array.shape, array.dtype) for name, array in example.items()}
    if data.buckets:
        height, width = max(data.buckets, key=lambda bucket: bucket[0] * bucket[1])
        for name in ("images", "target"):
            (*leading, _, _, channels), dtype = shapes[name]
            shapes[name] = (*leading, height, width, channels), dtype
    return {
        name: jax.ShapeDtypeStruct((data.batch_size, *shape), dtype, sharding=partitioner.batch())
        for name, (shape, dtype) in shapes.items()
    }


def record(config: Config, recipe: Recipe) -> Config:
    """Returns a run's config with the chosen settings in place of `auto`."""
    chosen = config.copy_and_resolve_references()
    with chosen.unlocked():
        chosen.model.attention, chosen.model.remat = recipe.model.attention, recipe.model.remat
    return chosen


def _with_model(recipe: Recipe, **changes: str) -> Recipe:
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))
