"""The structure of a model, with or without adapters, as graph definition and parameters."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.lora import LoRAConfig, split_lora
from ditfuse_jax.model.quantization import LEAVES as QUANTIZED_LEAVES
from ditfuse_jax.model.rngs import InitialKeys

if TYPE_CHECKING:
    from flax import nnx

    from ditfuse_jax.model.ditfuse import DiTFuse

# Nested dict of arrays, or of their shapes, types and shardings.
Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, and the adapters around it if there are any.

    Attributes:
      model: sizes and choices of the model.
      lora: the adapters.
      quantize: how the kernels of its layers are kept, a name in `quantization.QUANTIZATIONS`; None
        for unquantised ones.
    """

    model: ModelConfig
    lora: LoRAConfig | None = None
    quantize: str | None = None

    def build(self, key: jax.Array | int) -> "DiTFuse":
        """Returns the module with randomly initialised parameters."""
        # Here and below, so that a command whose programs are kept needs no Flax.
        from ditfuse_jax.model.ditfuse import DiTFuse
        from ditfuse_jax.model.lora_layers import add_lora

        model = DiTFuse(self.model, rngs=InitialKeys(key))
        if self.lora:
            key = jax.random.key(key) if isinstance(key, int) else key
            add_lora(model, self.lora, rngs=InitialKeys(jax.random.fold_in(key, 1)))
        if self.quantize:
            from ditfuse_jax.model.quantized_layers import quantize_model

            quantize_model(model, self.quantize)
        return model


def make_graph(network: Network) -> "tuple[nnx.GraphDef, nnx.State]":
    """Returns graph definition and abstract parameters; nothing is allocated.

    Raises:
      UserError: a target of the adapters does not exist, or a kernel cannot be quantised.
    """
    from flax import nnx

    graph, state = nnx.split(nnx.eval_shape(lambda: network.build(0)))
    return graph, state


def init_parameters(network: Network, key: jax.Array) -> Parameters:
    """Returns random initial values of the trainable parameters."""
    from flax import nnx

    parameters = nnx.to_pure_dict(nnx.state(network.build(key), nnx.Param))
    return trainable(network, parameters)


def trainable(network: Network, parameters: Parameters) -> Parameters:
    """Returns the trainable part of a tree like the parameters: all of it, or the adapters."""
    return split_lora(parameters)[0] if network.lora else parameters


def frozen_dtypes(model: ModelConfig, shapes: Parameters) -> Parameters:
    """Replaces the types of abstract parameters by those in which a frozen model is kept.

    That is the computation type, except for the norms' scales, which stay in float32, and quantised
    kernels.
    """
    kept = ("scale", *QUANTIZED_LEAVES)

    def leaf(path: tuple, x: Any) -> jax.ShapeDtypeStruct:
        dtype = x.dtype if path[-1].key in kept else model.dtype
        return jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype))

    return jax.tree_util.tree_map_with_path(leaf, shapes)
