"""Memory per device: of the arguments, and of the values that a training step saves."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.logical_axes import Axes
from ditfuse_jax.model.remat import REMAT_POLICIES
from ditfuse_jax.parallel import Partitioner

_TOKENS = ("batch", "sequence")
# The values that a layer may save for its backward pass, by their names in the model.  Attention's
# log-sum-exp and the padding of its output are not counted.
_AXES: Mapping[str, Axes] = {
    "block_input": (*_TOKENS, "activation"),
    "qkv": (*_TOKENS, "kv_heads", None, "head_dim"),
    "attention": (*_TOKENS, "heads", "head_dim"),
    "o_proj": (*_TOKENS, "activation"),
    "gate_up": (*_TOKENS, None, "mlp"),
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"


def device_bytes(tree: Any) -> int:
    """Returns the bytes of abstract arrays with shardings on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def checkpoints(
    model: ModelConfig, batch: int, length: int
) -> dict[str, tuple[Axes, tuple[int, ...]]]:
    """Returns the values that one layer saves on the device under the model's remat policy.

    Args:
      model: the policy and sizes.
      batch: number of examples.
      length: tokens of the whole sequence.

    Returns:
      Name -> logical axes and shape.

    Raises:
      UserError: the policy saves everything, so XLA decides what is stored.
    """
    saved = REMAT_POLICIES.find(model.remat).saved
    if saved is None:
        raise UserError(f"model.remat={model.remat} saves all values of a layer, without names")
    group = model.num_heads // model.num_kv_heads + 2
    sizes = {
        "block_input": (model.hidden_size,),
        "qkv": (model.num_kv_heads, group, model.head_dim),
        "attention": (model.num_heads, model.head_dim),
        "o_proj": (model.hidden_size,),
        "gate_up": (2, model.intermediate_size),
    }
    return {name: (_AXES[name], (batch, length, *sizes[name])) for name in saved}


def checkpoint_bytes(model: ModelConfig, partitioner: Partitioner, batch: int, length: int) -> int:
    """Returns the bytes on one device of the values that all layers save.

    0 if the policy saves everything; see `checkpoints`.
    """
    if REMAT_POLICIES.find(model.remat).saved is None:
        return 0
    total = 0
    for axes, shape in checkpoints(model, batch, length).values():
        total += math.prod(partitioner.activation(axes, shape).shard_shape(shape))
    return total * jnp.dtype(model.dtype).itemsize * model.num_layers


def out_of_memory_bytes(message: str) -> tuple[int, int] | None:
    """Returns (needed, available) bytes from the TPU compiler's out-of-memory message, or None."""
    used = re.search(rf"Used {_SIZE} of {_SIZE}\s*hbm", message, re.IGNORECASE)
    other = re.search(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)", message, re.IGNORECASE)
    found = used or other
    if not found:
        return None
    needed, needed_unit, available, available_unit = found.groups()
    return _bytes(needed, needed_unit), _bytes(available, available_unit)


def largest_allocations(message: str, count: int = 5) -> list[tuple[str, int]]:
    """Returns the largest allocations in the TPU compiler's out-of-memory message.

    Returns:
      (shape and operation, bytes) of each, largest first.
    """
    found = []
    for block in re.split(r"\n\s*\d+\. (?=Size:)", message)[1:]:
        size = re.search(rf"Size: {_SIZE}", block)
        shape = re.search(r"Shape: ([^\s{]+)", block)
        operation = re.search(r'op_name="([^"]*)"', block)
        if size and shape:
            name = f"{shape[1]} of {operation[1]}" if operation else shape[1]
            found.append((name, _bytes(*size.groups())))
    return sorted(found, key=lambda item: -item[1])[:count]


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit.upper()])
