"""Where a device's memory goes: exactly for arguments, by size for what a step keeps meanwhile."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.logical_axes import Axes
from ditfuse_jax.model.remat import KEPT_NAMES
from ditfuse_jax.parallel import Sharder

_TOKENS = ("batch", "sequence")
# The values that a layer may keep for its backward pass, by the names they have in the model.  Not
# counted: attention's log-sum-exp, and what pads its output to whole blocks and lanes.
_AXES: Mapping[str, Axes] = {
    "block_input": (*_TOKENS, "activation"),
    "qkv": (*_TOKENS, "kv_heads", None, "head_dim"),
    "attention": (*_TOKENS, "heads", "head_dim"),
    "o_proj": (*_TOKENS, "activation"),
    "gate_up": (*_TOKENS, None, "mlp"),
}
# What each policy keeps on the device; a scan keeps its layers' inputs.
_KEPT = {
    **{policy: ("block_input", *names) for policy, names in KEPT_NAMES.items()},
    "offload": (),
    "full": ("block_input",),
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"


def device_bytes(tree: Any) -> int:
    """Bytes of abstract arrays with shardings, on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def checkpoints(
    model: ModelConfig, batch: int, length: int
) -> dict[str, tuple[Axes, tuple[int, ...]]]:
    """Axes and shape of one layer's values that its rematerialisation policy keeps on the device.

    Args:
      model: its policy and sizes.
      batch: examples.
      length: tokens of the whole sequence.

    Raises:
      UserError: the policy is `none`: then everything is kept, and what that is, XLA decides.
    """
    if model.remat not in _KEPT:
        raise UserError(f"remat {model.remat!r} keeps every value of a layer: they have no names")
    group = model.num_heads // model.num_kv_heads + 2
    sizes = {
        "block_input": (model.hidden_size,),
        "qkv": (model.num_kv_heads, group, model.head_dim),
        "attention": (model.num_heads, model.head_dim),
        "o_proj": (model.hidden_size,),
        "gate_up": (2, model.intermediate_size),
    }
    return {name: (_AXES[name], (batch, length, *sizes[name])) for name in _KEPT[model.remat]}


def checkpoint_bytes(model: ModelConfig, sharder: Sharder, batch: int, length: int) -> int:
    """Bytes on one device of what all layers keep, or 0 where the policy keeps all there is."""
    if model.remat not in _KEPT:
        return 0
    total = 0
    for axes, shape in checkpoints(model, batch, length).values():
        total += math.prod(sharder.activation(axes, shape).shard_shape(shape))
    return total * jnp.dtype(model.dtype).itemsize * model.num_layers


def refused_bytes(message: str) -> tuple[int, int] | None:
    """(needed, available) bytes of an out-of-memory message of the TPU compiler, if it tells."""
    used = re.search(rf"Used {_SIZE} of {_SIZE}\s*hbm", message, re.IGNORECASE)
    other = re.search(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)", message, re.IGNORECASE)
    found = used or other
    if not found:
        return None
    needed, needed_unit, available, available_unit = found.groups()
    return _bytes(needed, needed_unit), _bytes(available, available_unit)


def refused_allocations(message: str, most: int = 5) -> list[tuple[str, int]]:
    """(shape and operation, bytes) of the largest allocations that such a message lists."""
    found = []
    for block in re.split(r"\n\s*\d+\. (?=Size:)", message)[1:]:
        size = re.search(rf"Size: {_SIZE}", block)
        shape = re.search(r"Shape: ([^\s{]+)", block)
        operation = re.search(r'op_name="([^"]*)"', block)
        if size and shape:
            name = f"{shape[1]} of {operation[1]}" if operation else shape[1]
            found.append((name, _bytes(*size.groups())))
    return sorted(found, key=lambda item: -item[1])[:most]


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit.upper()])
