"""Memory of a program on one device: its sizes, its largest buffers, and what does not fit."""

import dataclasses
import math
import re
from typing import Any

import jax

from ditfuse_jax.xla.hlo import Instruction, Module

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"
# Results that are other arrays' memory, or hold only references to it.
_NO_BUFFER = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
    *("call", "optimization-barrier", "dynamic-update-slice", "all-gather-done"),
    *("all-reduce-done", "collective-permute-done", "async-start", "async-update", "copy-start"),
)

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class MemorySizes:
    """Bytes on one device while a program runs.

    Attributes:
      arguments: of its inputs.
      outputs: of its results.
      reused: of results that take the memory of inputs (donated buffers).
      temporaries: of everything in between.
      code: of the program itself.
    """

    arguments: int
    outputs: int
    reused: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """What the device needs in all."""
        return self.arguments + self.outputs - self.reused + self.temporaries + self.code


def memory_sizes(compiled: jax.stages.Compiled) -> MemorySizes | None:
    """Returns the compiler's sizes of a program; None if it does not report them."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    return MemorySizes(
        arguments=int(found.argument_size_in_bytes),
        outputs=int(found.output_size_in_bytes),
        reused=int(found.alias_size_in_bytes),
        temporaries=int(found.temp_size_in_bytes),
        code=int(found.generated_code_size_in_bytes),
    )


def device_bytes(tree: Any) -> int:
    """Returns the bytes of abstract arrays with shardings on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def largest_buffers(module: Module, count: int = 8) -> list[tuple[str, int]]:
    """Returns the largest values between inputs and results of a program, for display.

    Values that are stored one after the other may share memory, so their sum can exceed the
    program's temporaries.

    Args:
      module: the optimised program.
      count: how many are returned.

    Returns:
      (shape and operation, bytes) of each, largest first; equal ones are one line with their
      number.
    """
    root = next(i for i in module.computations[module.entry].values() if i.root)
    results = {root.name, *(root.operands if root.opcode == "tuple" else ())}
    found: dict[tuple[str, int], int] = {}
    for computation, _, instruction in module.instructions():
        inside = computation in module.fused or instruction.opcode in _NO_BUFFER
        if inside or (computation == module.entry and instruction.name in results):
            continue
        if _updates_in_place(module, instruction):
            continue
        operation = re.search(r'op_name="([^"]*)"', instruction.attributes)
        for array in instruction.arrays:
            if array.on_chip or not array.bytes:
                continue
            shape = f"{array.dtype}[{','.join(map(str, array.dims))}]"
            name = f"{shape} of {operation[1] if operation else instruction.opcode}"
            found[name, array.bytes] = found.get((name, array.bytes), 0) + 1
    largest = sorted(found.items(), key=lambda item: (-item[0][1], item[0][0]))[:count]
    return [(f"{n} x {name}" if n > 1 else name, size) for (name, size), n in largest]


def _updates_in_place(module: Module, instruction: Instruction) -> bool:
    """Whether a fusion writes into one of its inputs."""
    if instruction.opcode != "fusion":
        return False
    inner = module.computations[dict(instruction.called())["calls"]]
    root = next(i for i in inner.values() if i.root)
    while root.opcode in ("bitcast", "copy", "convert") and root.operands[0] in inner:
        root = inner[root.operands[0]]
    return root.opcode == "dynamic-update-slice"


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


def device_memory() -> dict[str, int]:
    """Returns the memory of the fullest device of this process, as far as the device reports it.

    Returns:
      Bytes: `in_use`, `peak` (since the process started) and `limit`; empty for CPUs.
    """
    names = {"in_use": "bytes_in_use", "peak": "peak_bytes_in_use", "limit": "bytes_limit"}
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    fullest = max(found, key=lambda stats: stats.get("bytes_in_use", 0), default={})
    return {name: int(fullest[key]) for name, key in names.items() if key in fullest}


def readable(size: float) -> str:
    """Returns a number of bytes as text: `1.25 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
