"""Conversion between layouts of weights and adapters, and comparison with reference numbers."""

from ditfuse_jax.convert.convert import convert
from ditfuse_jax.convert.publish import push
from ditfuse_jax.convert.verify import verify

__all__ = ["convert", "push", "verify"]
