"""The training state: one abstract description serves initialisation, restore and compilation.

With low-rank adapters only their leaves are state; the model under them, and an autoencoder, are
frozen: the step reads them beside the state.
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
    """Everything a step reads and writes; nothing random is in it.

    Attributes:
      step: updates tried so far, skipped ones included.
      parameters: nested dict of float32 arrays: what trains, of the model or of its adapters.
      optimizer: optax state.
      ema: exponential moving average of the parameters, or None.
      skipped: updates refused for a non-finite or exploding gradient.
      grad_norm_ema: running mean of accepted gradient norms, 0 before the first.
    """

    step: jax.Array
    parameters: Parameters
    optimizer: optax.OptState
    ema: Parameters | None
    skipped: jax.Array
    grad_norm_ema: jax.Array


class Frozen(NamedTuple):
    """What a step reads and never writes.

    Attributes:
      base: the model under the adapters; empty without them.
      autoencoder: empty for a model on pixels.
    """

    base: Parameters
    autoencoder: Parameters


def new_state(
    network: Network, optimizer: optax.GradientTransformation, ema: bool, key: jax.Array
) -> TrainState:
    """A fresh state (trace it under jit to have it sharded from the first byte)."""
    return state_around(init_parameters(network, key), optimizer, ema)


def state_around(
    parameters: Parameters, optimizer: optax.GradientTransformation, ema: bool
) -> TrainState:
    """The first state of given parameters."""
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
    """Shapes, types and shardings of the state, without values."""
    shapes = jax.eval_shape(lambda key: new_state(network, optimizer, ema, key), jax.random.key(0))
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
    """Moments lie where their parameters lie; sums over one dimension lack its part of the spec."""
    if isinstance(moment, optax.MaskedNode):  # another rule's parameter
        return moment
    shape = parameter.shape
    if moment.shape == shape:
        return sharding
    spec = (*sharding.spec, *[None] * (len(shape) - len(sharding.spec)))
    for k in range(len(shape)):
        if moment.shape == shape[:k] + shape[k + 1 :]:
            return NamedSharding(sharding.mesh, PartitionSpec(*spec[:k], *spec[k + 1 :]))
    return NamedSharding(sharding.mesh, PartitionSpec())  # a placeholder of one number


def shardings_of(abstract: Any) -> Any:
    """The shardings of abstract values, for `out_shardings`."""
    return jax.tree.map(lambda x: x.sharding, abstract)


def create_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    ema: bool,
    seed: int,
    abstract: TrainState,
    initial: Parameters | None = None,
) -> TrainState:
    """Makes every leaf on the devices that will hold it, fresh or around `initial` parameters."""
    shardings = shardings_of(abstract)
    if initial is not None:
        around = jax.jit(
            lambda parameters: state_around(parameters, optimizer, ema),
            out_shardings=shardings,
            donate_argnums=0,
        )
        return around(initial)
    create = jax.jit(lambda key: new_state(network, optimizer, ema, key), out_shardings=shardings)
    return create(jax.random.key(seed))
