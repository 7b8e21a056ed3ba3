"""Other people's checkpoints: safetensors, the layouts of OmniGen, diffusers and PEFT."""

from ditfuse_jax.weights.autoencoder import load_autoencoder
from ditfuse_jax.weights.bundle import SHIPPED, find_bundle, is_bundle, open_bundle, read_bundle
from ditfuse_jax.weights.folder import OmniGen, is_weights, open_omnigen
from ditfuse_jax.weights.peft import Adapter, is_adapter, read_adapter, write_adapter
from ditfuse_jax.weights.tensors import Tensors, open_tensors, write_safetensors

__all__ = [
    "SHIPPED",
    "Adapter",
    "OmniGen",
    "Tensors",
    "find_bundle",
    "is_adapter",
    "is_bundle",
    "is_weights",
    "load_autoencoder",
    "open_bundle",
    "open_omnigen",
    "open_tensors",
    "read_adapter",
    "read_bundle",
    "write_adapter",
    "write_safetensors",
]
