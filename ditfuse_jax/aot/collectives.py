"""Communication of an optimised program: what each device sends in collective operations."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.xla.hlo import Instruction, Module, parse_ints

COLLECTIVES = (
    *("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"),
    *("ragged-all-to-all", "collective-broadcast"),
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation.

    Attributes:
      kind: a name in `COLLECTIVES`, or `between slices`.
      runs: number of executions.
      sent: bytes that each device sends per execution with the optimal (ring) algorithm.
      crosses: whether devices of different slices take part.
    """

    kind: str
    runs: float
    sent: float
    crosses: bool


def collectives(module: Module, slice_of: Sequence[int]) -> list[Collective]:
    """Returns every collective operation of a program.

    Args:
      module: the program.
      slice_of: for each device of the program, the index of its slice.
    """
    found, fused = [], {}
    for name, runs, instruction in module.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind == "send" and "xla_megascale_runtime" in instruction.attributes:
            # Slices communicate through their hosts: each device sends its data at least once.
            sent = float(instruction.arrays[0].bytes)
            found.append(Collective("between slices", runs, sent, crosses=True))
        if kind not in COLLECTIVES:
            continue
        groups = _groups(instruction, len(slice_of))
        crosses = any(len({slice_of[device] for device in group}) > 1 for group in groups)
        arrays = instruction.arrays
        if instruction.opcode == "all-gather-start":  # operands, then results
            arrays = arrays[len(arrays) // 2 :]
        elif instruction.opcode == "collective-permute-start":  # operand, result, context
            arrays = arrays[1:2]
        size = sum(array.bytes for array in arrays)
        if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
            kind, size = "reduce-scatter", size / len(groups[0])
        one = Collective(kind, runs, _sent(kind, size, len(groups[0])), crosses)
        channel = re.search(r"channel_id=(\d+)", instruction.attributes)
        if name in module.fused and channel:
            # An asynchronous collective appears in several kernels, from its start to its end.
            key = (kind, channel.group(1))
            fused[key] = max(fused.get(key, one), one, key=lambda c: c.runs * c.sent)
        else:
            found.append(one)
    return found + list(fused.values())


def _sent(kind: str, size: float, group: int) -> float:
    """Returns the bytes sent per device; `size` is the size of the result in bytes."""
    others = (group - 1) / group
    match kind:
        case "all-gather" | "all-to-all" | "ragged-all-to-all":
            return size * others
        case "all-reduce":
            return 2 * size * others
        case "reduce-scatter":
            return size * (group - 1)
        case _:
            return float(size)


def _groups(instruction: Instruction, count: int) -> list[list[int]]:
    """Returns the groups of devices that communicate."""
    text = instruction.attributes
    pairs = re.search(r"source_target_pairs=\{(\{.*?\})\}", text)
    if pairs:
        return [[int(a), int(b)] for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs.group(1))]
    listed = re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", text)
    if listed:
        groups = re.findall(r"\{([\d, ]+)\}", listed.group(1))
        return [[int(device) for device in group.split(",")] for group in groups]
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        shape, dims, order = (parse_ints(part) for part in iota.groups(default=""))
        devices = np.arange(math.prod(dims)).reshape(dims)
        if order:
            devices = devices.transpose(order)
        return devices.reshape(shape).tolist()
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\](?:[^{]*?\(([\d,]+)\))?\s*\{([^}]*)\}", text)
    if mesh:
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh.group(1))}
        joined = re.findall(r"'([^']+)'", mesh.group(3))
        devices = np.arange(math.prod(axes.values())).reshape(list(axes.values()))
        names = list(axes)
        order = [i for i, n in enumerate(names) if n not in joined] + [
            names.index(n) for n in joined
        ]
        size = math.prod(axes[name] for name in joined)
        return devices.transpose(order).reshape(-1, size).tolist()
    return [list(range(count))]
