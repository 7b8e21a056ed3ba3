"""A table of the parameters: counts, shapes, types and shardings."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding

_MOST_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One array.

    Attributes:
      name: its path, separated by slashes.
      shape: of the whole array.
      dtype: name of its type.
      sharding: mesh axes of each dimension, see `describe_sharding`.
      device_bytes: on each device.
      trained: whether the training changes it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sharding: str
    device_bytes: int
    trained: bool

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def list_parameters(**trees: Any) -> list[Parameter]:
    """Returns the arrays of trees of arrays or abstract arrays.

    Args:
      **trees: `trained` is changed by the training; the name of another precedes its arrays'.
    """
    found = []
    for tree_name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
            trained = tree_name == "trained"
            shape = tuple(leaf.shape)
            on_device = leaf.sharding.shard_shape(shape) if leaf.sharding else shape
            found.append(
                Parameter(
                    "/".join(keys if trained else [tree_name, *keys]),
                    shape,
                    leaf.dtype.name,
                    describe_sharding(leaf.sharding, len(shape)),
                    math.prod(on_device) * leaf.dtype.itemsize,
                    trained,
                )
            )
    return found


def describe_sharding(sharding: Any, dimensions: int) -> str:
    """Returns the mesh axes of each dimension, `-` for none: `fsdp,-,tensor`.

    Axes of the mesh with one device are left out; `whole` if no dimension is divided.
    """
    if not isinstance(sharding, NamedSharding):
        return "whole"
    sizes = dict(sharding.mesh.shape)
    parts = []
    for entry in (*sharding.spec, *[None] * (dimensions - len(sharding.spec))):
        names = () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
        parts.append("+".join(name for name in names if sizes[name] > 1) or "-")
    return ",".join(parts) if any(part != "-" for part in parts) else "whole"


def parameter_table(parameters: Sequence[Parameter]) -> str:
    """Returns a table with a row for each array, the totals last."""
    rows = [
        [
            p.name,
            "trained" if p.trained else "frozen",
            "x".join(map(str, p.shape)) or "scalar",
            f"{p.count:,}",
            p.dtype,
            p.sharding,
            f"{p.device_bytes:,}",
        ]
        for p in parameters
    ]
    heads = ["array", "", "shape", "parameters", "type", "sharding", "bytes per device"]
    return _align([heads, *rows], right=(3, 6)) + "\n" + _totals(parameters) + "\n"


def parameter_summary(parameters: Sequence[Parameter]) -> str:
    """Returns a table of at most `_MOST_ROWS` groups of arrays, and the totals.

    Groups are made by the first parts of the names: as many parts as fit.
    """
    deepest = max(len(p.name.split("/")) for p in parameters)
    fitting = [d for d in range(1, deepest + 1) if _rows_at(parameters, d) <= _MOST_ROWS]
    depth = max(fitting, default=1)
    groups: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(_prefix(parameter.name, depth), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: -sum(p.count for p in item[1]))
    shown, rest = ordered[:_MOST_ROWS], ordered[_MOST_ROWS:]
    if rest:
        shown.append((f"{len(rest)} more", [p for _, group in rest for p in group]))
    rows = [
        [
            name,
            str(len(group)),
            f"{sum(p.count for p in group):,}",
            _join(p.dtype for p in group),
            _join(p.sharding for p in group),
        ]
        for name, group in shown
    ]
    heads = ["parameters of", "arrays", "parameters", "types", "shardings"]
    return _align([heads, *rows], right=(1, 2)) + "\n" + _totals(parameters)


def _totals(parameters: Sequence[Parameter]) -> str:
    trained = [p for p in parameters if p.trained]
    frozen = [p for p in parameters if not p.trained]
    parts = [
        f"{sum(p.count for p in group):,} {what} parameters "
        f"({_gib(sum(p.device_bytes for p in group))} per device)"
        for what, group in (("trained", trained), ("frozen", frozen))
        if group
    ]
    return " and ".join(parts)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"


def _prefix(name: str, depth: int) -> str:
    return "/".join(name.split("/")[:depth])


def _rows_at(parameters: Sequence[Parameter], depth: int) -> int:
    return len({_prefix(p.name, depth) for p in parameters})


def _join(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    more = f" and {len(distinct) - 2} more" if len(distinct) > 2 else ""
    return " ".join(distinct[:2]) + more


def _align(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
