"""Other people's checkpoints: safetensors, the layouts of OmniGen, diffusers and PEFT."""

from ditfuse_jax.weights.autoencoder import load_autoencoder
from ditfuse_jax.weights.box import SHIPPED, find_box, is_box, open_box, read_box
from ditfuse_jax.weights.folder import OmniGen, is_weights, open_omnigen
from ditfuse_jax.weights.peft import Adapter, is_adapter, read_adapter, write_adapter
from ditfuse_jax.weights.tensors import Tensors, open_tensors, write_safetensors

__all__ = [
    "SHIPPED",
    "Adapter",
    "OmniGen",
    "Tensors",
    "find_box",
    "is_adapter",
    "is_box",
    "is_weights",
    "load_autoencoder",
    "open_box",
    "open_omnigen",
    "open_tensors",
    "read_adapter",
    "read_box",
    "write_adapter",
    "write_safetensors",
]
