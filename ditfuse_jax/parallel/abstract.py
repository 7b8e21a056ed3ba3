"""Abstract parameters with the shardings of a mesh: what initialisation and restoring fill."""

from typing import TYPE_CHECKING

import jax

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.network import Network, Parameters, frozen_dtypes, make_graph, trainable
from ditfuse_jax.parallel.rules import Partitioner, shard_like

if TYPE_CHECKING:
    from flax import nnx


def abstract_model(
    model: ModelConfig,
    partitioner: Partitioner,
    frozen: bool = False,
    quantize: str | None = None,
) -> Parameters:
    """Returns shapes, types and shardings of a model's parameters, without adapters.

    Args:
      model: the model's config.
      partitioner: places each parameter on its mesh.
      frozen: uses the types of a frozen model; see `frozen_dtypes`.
      quantize: how the kernels are quantised; see `Network`.
    """
    _, state = make_graph(Network(model, quantize=quantize))
    shapes = _shapes(state)
    if frozen:
        shapes = frozen_dtypes(model, shapes)
    return shard_like(shapes, partitioner.parameters(state))


def abstract_adapter(network: Network, partitioner: Partitioner) -> Parameters:
    """Returns shapes, types and shardings of the adapters' parameters."""
    _, state = make_graph(network)
    return trainable(network, shard_like(_shapes(state), partitioner.parameters(state)))


def _shapes(state: "nnx.State") -> Parameters:
    from flax import nnx

    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(state))
