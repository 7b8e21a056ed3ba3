"""The training state: one abstract description serves initialisation, restore and compilation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ditfuse_jax.model import DiTFuse, ModelConfig
from ditfuse_jax.parallel import Sharder, shard_like

Parameters = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything a step reads and writes; nothing random is in it.

    Attributes:
      step: updates tried so far, skipped ones included.
      parameters: nested dict of float32 arrays.
      optimizer: optax state.
      ema: exponential moving average of the parameters, or None.
      skipped: updates refused for a non-finite or exploding gradient.
      usual_grad_norm: running mean of accepted gradient norms, 0 before the first.
    """

    step: jax.Array
    parameters: Parameters
    optimizer: optax.OptState
    ema: Parameters | None
    skipped: jax.Array
    usual_grad_norm: jax.Array


def make_graph(config: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """The model's structure and abstract parameters, without allocating anything."""
    model = nnx.eval_shape(lambda: DiTFuse(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    return graph, state


def init_parameters(config: ModelConfig, key: jax.Array) -> Parameters:
    """Fresh parameters."""
    model = DiTFuse(config, rngs=nnx.Rngs(params=key))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def new_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, ema: bool, key: jax.Array
) -> TrainState:
    """A fresh state (trace it under jit to have it sharded from the first byte)."""
    parameters = init_parameters(config, key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        optimizer=optimizer.init(parameters),
        ema=jax.tree.map(jnp.copy, parameters) if ema else None,
        skipped=jnp.zeros((), jnp.int32),
        usual_grad_norm=jnp.zeros((), jnp.float32),
    )


def abstract_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, ema: bool, sharder: Sharder
) -> TrainState:
    """Shapes, types and shardings of the state, without values."""
    shapes = jax.eval_shape(lambda key: new_state(config, optimizer, ema, key), jax.random.key(0))
    _, abstract = make_graph(config)
    shardings = sharder.parameters(abstract)
    whole = sharder.replicated()
    # Moments lie where their parameters lie.
    moments = optax.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        shapes.optimizer,
        shardings,
        transform_non_params=lambda _: whole,
    )
    placed = dataclasses.replace(
        jax.tree.map(lambda _: whole, shapes),
        parameters=shardings,
        optimizer=moments,
        ema=shardings if ema else None,
    )
    return shard_like(shapes, placed)


def shardings_of(abstract: Any) -> Any:
    """The shardings of abstract values, for `out_shardings`."""
    return jax.tree.map(lambda x: x.sharding, abstract)


def create_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    ema: bool,
    seed: int,
    abstract: TrainState,
) -> TrainState:
    """Initialises every leaf on the devices that will hold it."""
    create = jax.jit(
        lambda key: new_state(config, optimizer, ema, key), out_shardings=shardings_of(abstract)
    )
    return create(jax.random.key(seed))
