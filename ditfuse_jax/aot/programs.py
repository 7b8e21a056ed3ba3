"""The programs of a recipe, traced with abstract arguments for devices that may be absent."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from ditfuse_jax.model import Condition
from ditfuse_jax.model.autoencoder import Autoencoder, AutoencoderConfig
from ditfuse_jax.model.network import Network, Parameters, make_graph
from ditfuse_jax.model.rngs import InitialKeys
from ditfuse_jax.model.space import LatentSpace, PixelSpace, Space
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.sample.sampler import jitted_codec, whole_sampler
from ditfuse_jax.train.compile import lower_step
from ditfuse_jax.train.memory import step_arguments
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen, abstract_state
from ditfuse_jax.train.step import make_train_step

# Condition images of an example: the pair that is fused.
NUM_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Program:
    """One program to compile.

    Attributes:
      name: `train`, `encode`, `sample` or `decode`.
      lower: traces the program.
      arguments: abstract arguments by kind.
    """

    name: str
    lower: Callable[[], jax.stages.Lowered]
    arguments: dict[str, Any]


def train_program(recipe: Recipe, partitioner: Partitioner) -> Program:
    """Returns the training step as the loop compiles it, with donated state.

    Raises:
      UserError: the batch or a parameter is not divisible by its mesh axes.
    """
    partitioner.check_batch(recipe.data.batch_size, recipe.step.accumulation)
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    state = abstract_state(recipe.network, optimizer, recipe.step.ema_decay > 0, partitioner)
    space, autoencoder = abstract_space(recipe, partitioner)
    quantize = recipe.network.quantize
    base: Parameters = {}
    if recipe.lora:
        base = abstract_model(recipe.model, partitioner, frozen=True, quantize=quantize)
    distils = recipe.step.teacher is not None and not recipe.lora
    teacher = abstract_model(recipe.model, partitioner, frozen=True) if distils else None
    frozen = Frozen(base, autoencoder, teacher)
    batch = abstract_batch(recipe, partitioner)
    graph, _ = make_graph(recipe.network)
    step = make_train_step(graph, optimizer, recipe.step, partitioner, space)
    return Program(
        "train",
        lambda: lower_step(step, partitioner, state, frozen, batch),
        step_arguments(state, frozen, batch),
    )


def sampling_programs(
    recipe: Recipe, partitioner: Partitioner, quantize: str | None = None
) -> list[Program]:
    """Returns the programs of `fuse` for a batch of the recipe's crop: encode, sample and decode.

    A model on pixels has `sample` only.

    Args:
      recipe: the model and its sampling.
      partitioner: of the mesh.
      quantize: how the kernels are quantised; see `Network`.

    Raises:
      UserError: the batch or a parameter is not divisible by its mesh axes.
    """
    size, (height, width) = recipe.data.batch_size, recipe.data.crop
    partitioner.check_batch(size, accumulation=1)
    sampling = recipe.sampling
    model = dataclasses.replace(recipe.model, text_slots=sampling.text_slots)
    graph, _ = make_graph(Network(model, quantize=quantize))
    # Adapters are merged into the weights before sampling.
    parameters = abstract_model(model, partitioner, frozen=True, quantize=quantize)
    space, autoencoder = abstract_space(recipe, partitioner)
    shape, text = space.shape(height, width), _text_length(sampling.text_slots)
    names = sampling.guidance.branches

    def rows(dtype: Any, *shape: int, leading: tuple[int, ...] = ()) -> Any:
        spec = PartitionSpec(*(None for _ in leading), *partitioner.batch().spec)
        sharding = NamedSharding(partitioner.mesh, spec)
        return jax.ShapeDtypeStruct((*leading, size, *shape), dtype, sharding=sharding)

    def branch(dtype: Any, *shape: int) -> Any:
        return rows(dtype, *shape, leading=(len(names),))

    branches = Condition(
        branch(jnp.int32, text),
        branch(jnp.bool_, text),
        branch(jnp.float32, NUM_IMAGES, *shape),
        branch(jnp.bool_, NUM_IMAGES),
    )
    noise = rows(jnp.float32, *shape)
    weights = jax.ShapeDtypeStruct((len(names),), jnp.float32, sharding=partitioner.replicated())
    sampler = whole_sampler(graph, sampling, partitioner)
    sample = Program(
        "sample",
        lambda: sampler.lower(parameters, branches, noise, weights),
        {"parameters": parameters, "batch": (branches, noise, weights)},
    )
    if isinstance(space, PixelSpace):
        return [sample]
    encoder, decoder = jitted_codec(space)
    pixels = rows(jnp.float32, NUM_IMAGES, height, width, 3)
    posterior_noise = rows(jnp.float32, NUM_IMAGES, *shape)
    encode = Program(
        "encode",
        lambda: encoder.lower(autoencoder, pixels, posterior_noise),
        {"autoencoder": autoencoder, "batch": (pixels, posterior_noise)},
    )
    decode = Program(
        "decode",
        lambda: decoder.lower(autoencoder, noise),
        {"autoencoder": autoencoder, "batch": noise},
    )
    return [encode, sample, decode]


def abstract_batch(recipe: Recipe, partitioner: Partitioner) -> dict[str, Any]:
    """Returns an abstract batch of pairs; `pipeline.ExampleEncoder` produces such batches."""
    size, (height, width) = recipe.data.batch_size, recipe.data.crop
    text = _text_length(recipe.model.text_slots)
    shapes = {
        "images": ((NUM_IMAGES, height, width, 3), jnp.uint8),
        "target": ((height, width, 3), jnp.uint8),
        "tokens": ((text,), jnp.int32),
        "token_valid": ((text,), jnp.bool_),
        "image_valid": ((NUM_IMAGES,), jnp.bool_),
    }
    return {
        name: jax.ShapeDtypeStruct((size, *shape), dtype, sharding=partitioner.batch())
        for name, (shape, dtype) in shapes.items()
    }


def abstract_space(recipe: Recipe, partitioner: Partitioner) -> tuple[Space, Parameters]:
    """Returns the model's space and abstract autoencoder parameters, replicated on all devices.

    The autoencoder has SDXL's sizes.
    """
    model = recipe.model
    if model.latent_downsampling == 1:
        return PixelSpace(), {}
    config = AutoencoderConfig(latent_channels=model.channels)
    abstract = nnx.eval_shape(lambda: Autoencoder(config, rngs=InitialKeys(0)))
    graph, state = nnx.split(abstract)
    parameters = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.replicated()),
        nnx.to_pure_dict(state),
    )
    return LatentSpace(config, graph), parameters


def _text_length(slots: tuple[int, int, int]) -> int:
    first, middle, last = slots
    return first + middle * (NUM_IMAGES - 1) + last
