"""Stored weights in all their layouts, behind `open_checkpoint`."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.weights.adapters import open_adapter
    from ditfuse_jax.weights.autoencoder import load_autoencoder
    from ditfuse_jax.weights.bundle import SHIPPED
    from ditfuse_jax.weights.checkpoint import Checkpoint, ParameterReader
    from ditfuse_jax.weights.omnigen_folder import OmniGen, open_omnigen
    from ditfuse_jax.weights.open import open_checkpoint
    from ditfuse_jax.weights.peft import Adapter, read_adapter, write_adapter
    from ditfuse_jax.weights.tensors import Tensors, open_tensors, write_safetensors

__all__ = [
    "SHIPPED",
    "Adapter",
    "Checkpoint",
    "OmniGen",
    "ParameterReader",
    "Tensors",
    "load_autoencoder",
    "open_adapter",
    "open_checkpoint",
    "open_omnigen",
    "open_tensors",
    "read_adapter",
    "write_adapter",
    "write_safetensors",
]

# Some modules of this package are used without JAX.
__getattr__ = lazy_attributes(
    __name__,
    {
        "SHIPPED": "ditfuse_jax.weights.bundle",
        "Adapter": "ditfuse_jax.weights.peft",
        "Checkpoint": "ditfuse_jax.weights.checkpoint",
        "OmniGen": "ditfuse_jax.weights.omnigen_folder",
        "ParameterReader": "ditfuse_jax.weights.checkpoint",
        "Tensors": "ditfuse_jax.weights.tensors",
        "load_autoencoder": "ditfuse_jax.weights.autoencoder",
        "open_adapter": "ditfuse_jax.weights.adapters",
        "open_checkpoint": "ditfuse_jax.weights.open",
        "open_omnigen": "ditfuse_jax.weights.omnigen_folder",
        "open_tensors": "ditfuse_jax.weights.tensors",
        "read_adapter": "ditfuse_jax.weights.peft",
        "write_adapter": "ditfuse_jax.weights.peft",
        "write_safetensors": "ditfuse_jax.weights.tensors",
    },
)
