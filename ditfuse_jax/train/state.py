"""The training state, and its abstract description for initialisation, restore and compilation.

With low-rank adapters the state holds their parameters only.  The model under them and an
autoencoder are frozen inputs of the step.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from ditfuse_jax.model.network import (
    Network,
    Parameters,
    init_parameters,
    make_graph,
    trainable,
)
from ditfuse_jax.parallel import Partitioner, shard_like


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a step reads and writes; random keys derive from the seed and the step.

    Attributes:
      step: number of updates, skipped ones included.
      parameters: nested dict of the trainable float32 arrays, of the model or of its adapters.
      optimizer: optax state.
      ema: exponential moving average of the parameters, or None.
      skipped: number of updates skipped for a non-finite or exploding gradient.
      grad_norm_ema: moving average of gradient norms, 0 before the first.
    """

    step: jax.Array
    parameters: Parameters
    optimizer: optax.OptState
    ema: Parameters | None
    skipped: jax.Array
    grad_norm_ema: jax.Array


class Frozen(NamedTuple):
    """Inputs of a step that never change.

    Attributes:
      base: the model under the adapters; empty without them.
      autoencoder: empty for a model on pixels.
      teacher: the model that is distilled; None without distillation, and where it is `base`.
    """

    base: Parameters
    autoencoder: Parameters
    teacher: Parameters | None = None


def init_state(
    network: Network, optimizer: optax.GradientTransformation, ema: bool, key: jax.Array
) -> TrainState:
    """Returns a fresh state; under jit with output shardings no device holds all of it."""
    return state_of_parameters(init_parameters(network, key), optimizer, ema)


def state_of_parameters(
    parameters: Parameters, optimizer: optax.GradientTransformation, ema: bool
) -> TrainState:
    """Returns the initial state for given parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        optimizer=optimizer.init(parameters),
        ema=jax.tree.map(jnp.copy, parameters) if ema else None,
        skipped=jnp.zeros((), jnp.int32),
        grad_norm_ema=jnp.zeros((), jnp.float32),
    )


def abstract_state(
    network: Network, optimizer: optax.GradientTransformation, ema: bool, partitioner: Partitioner
) -> TrainState:
    """Returns the shapes, types and shardings of the state."""
    shapes = jax.eval_shape(lambda key: init_state(network, optimizer, ema, key), jax.random.key(0))
    _, abstract = make_graph(network)
    shardings = trainable(network, partitioner.parameters(abstract))
    whole = partitioner.replicated()
    moments = optax.tree_map_params(
        optimizer,
        _moment_sharding,
        shapes.optimizer,
        shapes.parameters,
        shardings,
        transform_non_params=lambda _: whole,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
    placed = dataclasses.replace(
        jax.tree.map(lambda _: whole, shapes),
        parameters=shardings,
        optimizer=moments,
        ema=shardings if ema else None,
    )
    return shard_like(shapes, placed)


def _moment_sharding(moment: Any, parameter: Any, sharding: NamedSharding) -> Any:
    """Returns the sharding of a moment: its parameter's, without a dimension that is reduced."""
    if isinstance(moment, optax.MaskedNode):  # a parameter of another update rule
        return moment
    shape = parameter.shape
    if moment.shape == shape:
        return sharding
    spec = (*sharding.spec, *[None] * (len(shape) - len(sharding.spec)))
    for k in range(len(shape)):
        if moment.shape == shape[:k] + shape[k + 1 :]:
            return NamedSharding(sharding.mesh, PartitionSpec(*spec[:k], *spec[k + 1 :]))
    return NamedSharding(sharding.mesh, PartitionSpec())  # a scalar placeholder


def shardings_of(abstract: Any) -> Any:
    """Returns the shardings of abstract values, for `out_shardings`."""
    return jax.tree.map(lambda x: x.sharding, abstract)


def create_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    ema: bool,
    seed: int,
    abstract: TrainState,
    initial: Parameters | None = None,
) -> TrainState:
    """Creates the state with its final shardings, from fresh or from `initial` parameters."""
    shardings = shardings_of(abstract)
    if initial is not None:
        around = jax.jit(
            lambda parameters: state_of_parameters(parameters, optimizer, ema),
            out_shardings=shardings,
            donate_argnums=0,
        )
        return around(initial)
    create = jax.jit(lambda key: init_state(network, optimizer, ema, key), out_shardings=shardings)
    return create(jax.random.key(seed))
