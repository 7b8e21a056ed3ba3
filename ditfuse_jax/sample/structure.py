"""The structure of a model for sampling, made when a program must be traced.

Making it takes a third of a second, which a command whose programs are kept on disk saves.
"""

from typing import TYPE_CHECKING, Any

from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.network import Network, make_graph

# A network, or the graph definition of a module with its methods, from `nnx.split`.
if TYPE_CHECKING:
    from flax import nnx

    Structure = Network | nnx.GraphDef
else:
    Structure = Any


def merge(structure: Structure, parameters: Any) -> Any:
    """Returns the module."""
    from flax import nnx

    graph = make_graph(structure)[0] if isinstance(structure, Network) else structure
    return nnx.merge(graph, parameters)


def config_of(structure: Structure, parameters: Any) -> ModelConfig:
    """Returns the model's config."""
    if isinstance(structure, Network):
        return structure.model
    from flax import nnx

    return nnx.merge(structure, parameters).config
