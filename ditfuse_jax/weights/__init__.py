"""Stored weights in all their layouts, behind `open_checkpoint`."""

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
