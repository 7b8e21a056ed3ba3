"""The training state: one abstract description serves initialisation, restore and compilation.

With low-rank adapters only their leaves are state; the model under them, and an autoencoder, are
frozen: the step reads them beside the state.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from ditfuse_jax.model import DiTFuse, ModelConfig
from ditfuse_jax.model.lora import LoRAConfig, add_lora, split_lora
from ditfuse_jax.parallel import Sharder, shard_like

Parameters = dict[str, Any]


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


@dataclasses.dataclass(frozen=True)
class Network:
    """What is built: a model, perhaps with adapters around it."""

    model: ModelConfig
    lora: LoRAConfig | None = None

    def build(self, key: jax.Array | int) -> DiTFuse:
        """A model with fresh parameters."""
        model = DiTFuse(self.model, rngs=nnx.Rngs(params=key))
        if self.lora:
            key = jax.random.key(key) if isinstance(key, int) else key
            add_lora(model, self.lora, rngs=nnx.Rngs(params=jax.random.fold_in(key, 1)))
        return model


def make_graph(network: Network) -> tuple[nnx.GraphDef, nnx.State]:
    """The structure and abstract parameters, without allocating anything.

    Raises:
      UserError: the adapters' targets do not exist.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: network.build(0)))
    return graph, state


def init_parameters(network: Network, key: jax.Array) -> Parameters:
    """Fresh values of what trains."""
    parameters = nnx.to_pure_dict(nnx.state(network.build(key), nnx.Param))
    return trained_part(network, parameters)


def trained_part(network: Network, parameters: Parameters) -> Parameters:
    """Of a tree like the parameters: the leaves that train."""
    return split_lora(parameters)[0] if network.lora else parameters


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
    network: Network, optimizer: optax.GradientTransformation, ema: bool, sharder: Sharder
) -> TrainState:
    """Shapes, types and shardings of the state, without values."""
    shapes = jax.eval_shape(lambda key: new_state(network, optimizer, ema, key), jax.random.key(0))
    _, abstract = make_graph(network)
    shardings = trained_part(network, sharder.parameters(abstract))
    whole = sharder.replicated()
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


def abstract_model(model: ModelConfig, sharder: Sharder, frozen: bool = False) -> Parameters:
    """Shapes, types and shardings of a whole model's parameters.

    A frozen model is kept in its computation type, which is what every use of it reads; only the
    norms, which are computed in float32, stay so.
    """
    _, state = make_graph(Network(model))

    def leaf(path: tuple, x: Any) -> jax.ShapeDtypeStruct:
        dtype = model.dtype if frozen and path[-1].key != "scale" else x.dtype
        return jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype))

    shapes = jax.tree_util.tree_map_with_path(leaf, nnx.to_pure_dict(state))
    return shard_like(shapes, sharder.parameters(state))


def abstract_adapter(network: Network, sharder: Sharder) -> Parameters:
    """Shapes, types and shardings of the adapters' parameters."""
    _, state = make_graph(network)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(state))
    return trained_part(network, shard_like(shapes, sharder.parameters(state)))


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
