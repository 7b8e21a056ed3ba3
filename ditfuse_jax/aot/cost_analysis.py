"""Costs of an optimised program per device: FLOPs of matrix products and HBM traffic.

XLA's own analysis counts the body of a loop once; here everything is counted as often as it runs.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.aot.collectives import COLLECTIVES
from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.xla.hlo import Array, Computation, Instruction, Module, parse_ints

# Instructions that cause no memory traffic.
_FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"),
        *("conditional", "after-all", "partition-id", "replica-id", "iota", "async-start"),
        *("async-update", "async-done", "copy-done", "opt-barrier"),
        *("send", "send-done", "recv", "recv-done"),
    }
)


def matrix_flops(module: Module, masks: Sequence[AttentionMask] = ()) -> float:
    """Returns the FLOPs of matrix products, convolutions and attention kernels.

    Args:
      module: the program.
      masks: masks of the attention in the program.  JAX's splash kernels do not report FLOPs; they
        are counted for the pairs that are not masked out, a lower bound.
    """
    total = 0.0
    for name, runs, instruction in module.instructions():
        computation = module.computations[name]
        if instruction.opcode == "convolution":
            total += runs * _convolution(computation, instruction)
        elif instruction.opcode == "dot":
            total += runs * _dot(computation, instruction)
        elif instruction.opcode == "custom-call":
            total += runs * (_kernel(computation, instruction, masks) or 0.0)
    return total


def unknown_kernels(module: Module, masks: Sequence[AttentionMask] = ()) -> tuple[str, ...]:
    """Returns the names of kernels with unknown FLOPs, which `matrix_flops` does not count."""
    return tuple(
        instruction.name
        for name, _, instruction in module.instructions()
        if 'custom_call_target="tpu_custom_call"' in instruction.attributes
        and _kernel(module.computations[name], instruction, masks) is None
    )


def hbm_bytes(module: Module) -> float:
    """Returns the bytes that kernels read from and write to HBM, without on-chip memory."""
    total = 0.0
    for name, runs, instruction in module.instructions():
        if name not in module.fused and not _is_free(instruction):
            total += runs * _traffic(module, module.computations[name], instruction)
    return total


def _array(computation: Computation, name: str) -> Array:
    return computation[name].arrays[0]


def _dot(computation: Computation, instruction: Instruction) -> float:
    left = _array(computation, instruction.operands[0])
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    dims = parse_ints(contracted.group(1)) if contracted else []
    return 2.0 * instruction.arrays[0].size * math.prod(left.dims[dim] for dim in dims)


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """Counts products inside the image only: on TPUs batched products are dilated windows."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None
    left_labels, right_labels, out_labels = labels.groups()
    left, right = (_array(computation, name) for name in instruction.operands[:2])
    out = instruction.arrays[0]
    window = _window(instruction.attributes)
    flops = 2.0 * out.dims[out_labels.index("b")] * out.dims[out_labels.index("f")]
    flops *= left.dims[left_labels.index("f")]
    for group in ("feature_group_count", "batch_group_count"):
        found = re.search(rf"{group}=(\d+)", instruction.attributes)
        if found:
            flops /= int(found.group(1))
    for axis in range(len(left_labels) - 2):
        label = str(axis)
        flops *= _valid(
            left.dims[left_labels.index(label)],
            right.dims[right_labels.index(label)],
            out.dims[out_labels.index(label)],
            {key: values[axis] for key, values in window.items() if axis < len(values)},
        )
    return flops


def _window(attributes: str) -> dict[str, list[str]]:
    found = re.search(r"window=\{([^}]*)\}", attributes)
    settings = found.group(1).split() if found else []
    return {key: value.split("x") for key, _, value in (s.partition("=") for s in settings)}


def _valid(image: int, kernel: int, out: int, window: dict[str, str]) -> int:
    """Counts pairs of a result's and a kernel's index that meet an element of the image."""
    stride, dilation = int(window.get("stride", 1)), int(window.get("rhs_dilate", 1))
    spread = int(window.get("lhs_dilate", 1))
    low = int(window.get("pad", "0_0").split("_")[0])
    place = np.arange(out)[:, None] * stride + np.arange(kernel)[None, :] * dilation - low
    inside = (place >= 0) & (place <= (image - 1) * spread) & (place % spread == 0)
    return int(inside.sum())


# Number of matrix products in each of the kernels.
_SPLASH_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_FLOATS = ("bf16", "f32")
_SPLASH_PADDING = 512  # tokens are padded to blocks of at most this many


def _kernel(
    computation: Computation, instruction: Instruction, masks: Sequence[AttentionMask]
) -> float | None:
    arrays = [_array(computation, n) for n in instruction.operands if n in computation]
    if instruction.name.startswith("online-softmax"):  # XLA's: scores, values -> their product
        return 2.0 * arrays[0].size * instruction.arrays[0].dims[-1]
    kernel = re.match(r"splash_m[hq]a_(fwd|dq|dkv)", instruction.name)
    if not kernel:
        return None
    # (batch, heads, tokens, head dim); a batch of one has no dimension.
    q, k = [x for x in arrays if x.dtype in _FLOATS and len(x.dims) >= 3][:2]
    *stack, queries, depth = q.dims
    for mask in masks:
        padding = (queries - mask.num_queries, k.dims[-2] - mask.num_keys)
        if all(0 <= tokens < _SPLASH_PADDING for tokens in padding):
            pairs = math.prod(stack) * mask.num_pairs()
            return 2.0 * _SPLASH_PRODUCTS[kernel.group(1)] * pairs * depth
    return None


def _is_free(instruction: Instruction) -> bool:
    kind = instruction.opcode.removesuffix("-start").removesuffix("-done")
    return instruction.opcode in _FREE or kind in COLLECTIVES


def _traffic(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Returns the bytes that one kernel reads and writes."""
    inside = None
    if instruction.opcode == "fusion":
        inside = module.computations[dict(instruction.called())["calls"]]
    if inside is None:
        if instruction.opcode in ("dynamic-slice", "slice", "gather"):
            return 2.0 * _stored(instruction.arrays)
        if instruction.opcode == "dynamic-update-slice":
            return 2.0 * _stored((_array(computation, instruction.operands[1]),))
        if instruction.opcode == "copy-start":
            return float(_stored(instruction.arrays[:2]))
        read = [computation[name].arrays for name in instruction.operands if name in computation]
        return float(_stored(instruction.arrays) + sum(map(_stored, read)))
    parameters = {int(i.literal): i for i in inside.values() if i.opcode == "parameter"}
    total = 0.0
    for number, name in enumerate(instruction.operands):
        arrays = computation[name].arrays if name in computation else ()
        total += min(_stored(arrays), _read(module, inside, parameters[number], arrays))
    root = next(i for i in inside.values() if i.root)
    return total + min(_stored(instruction.arrays), _written(inside, root, instruction.arrays))


def _read(
    module: Module, inside: Computation, parameter: Instruction, arrays: Sequence[Array]
) -> float:
    """Returns the bytes that a fusion reads of a parameter; if it is only sliced, the slices."""
    total, names = 0.0, [parameter.name]
    while names:
        name = names.pop()
        for user in inside.values():
            if name not in user.operands:
                continue
            if user.opcode == "bitcast":
                names.append(user.name)
            elif user.opcode in ("dynamic-slice", "slice"):
                total += user.arrays[0].bytes
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                pass  # written in place
            elif user.opcode == "fusion":  # nested
                inner = module.computations[dict(user.called())["calls"]]
                place = str(user.operands.index(name))
                (same,) = (
                    i for i in inner.values() if i.opcode == "parameter" and i.literal == place
                )
                total += _read(module, inner, same, arrays)
            else:
                return float(_stored(arrays))
    return total


def _written(inside: Computation, root: Instruction, arrays: Sequence[Array]) -> float:
    """Returns the bytes that a fusion writes; for a result updated in place, the update."""
    while root.opcode == "bitcast":
        root = inside[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return float(_array(inside, root.operands[1]).bytes)
    if root.opcode == "tuple":
        pieces = [inside[name] for name in root.operands]
        return sum(
            _written(inside, piece, (array,))
            for piece, array in zip(pieces, arrays, strict=False)
            if not array.on_chip
        )
    return float(_stored(arrays))


def _stored(arrays: Sequence[Array]) -> int:
    return sum(array.bytes for array in arrays if not array.on_chip)
