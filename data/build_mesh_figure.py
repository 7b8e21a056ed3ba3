"""Draws `docs/images/mesh.svg`: the mesh of 16 devices, and how arrays are cut over it.

    python data/build_mesh_figure.py

The axes are those of `parallel/mesh.py`, the parameters those of the preset `nano`, and every array
is cut as the rules in `parallel/rules.py` say.  A test compares the file with what this script
draws.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from flax import nnx
from jax.sharding import AbstractMesh

from ditfuse_jax.model import PRESETS
from ditfuse_jax.model.logical_axes import Axes, axes_of
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.parallel import AXES, Partitioner

FILE = Path(__file__).parents[1] / "docs" / "images" / "mesh.svg"
SIZES = (2, 2, 2, 2)  # of `AXES`

ACTIVATIONS: Axes = ("batch", "sequence", "activation")
PARAMETERS = (
    "transformer.layers.mlp.gate_up_proj.kernel",
    "transformer.layers.self_attn.qkv_proj.kernel",
    "embed_tokens",
    "transformer.norm.scale",
)
COLOURS = ("#f0b429", "#3a86c8", "#8a56ac", "#3fa66b", "#e76f51", "#2a9d8f", "#9c6644", "#ef476f")
CELL, GAP, LEFT = 34, 14, 24


def arrays() -> dict[str, Axes]:
    """Returns title -> logical axes: activations, and parameters of a model."""
    _, state = make_graph(Network(PRESETS["nano"]()))
    axes = {".".join(map(str, path)): axes_of(leaf) for path, leaf in nnx.to_flat_state(state)}
    return {"activations": ACTIVATIONS} | {name: axes[name] for name in PARAMETERS}


def partitioner() -> Partitioner:
    """The rules on a mesh of devices that need not exist."""
    mesh: object = AbstractMesh(SIZES, AXES)
    return Partitioner(mesh)  # pyright: ignore[reportArgumentType]


def cuts(axes: Axes) -> list[tuple[str, ...]]:
    """Returns the mesh axes over which each dimension of an array is cut."""
    spec = partitioner().spec(axes)
    return [(entry,) if isinstance(entry, str) else tuple(entry or ()) for entry in spec]


def holders(axes: Axes) -> dict[tuple[int, ...], list[int]]:
    """Returns part of an array (its place along each dimension) -> the devices that hold it."""
    found: dict[tuple[int, ...], list[int]] = {}
    places = itertools.product(*map(range, SIZES))
    for device, place in enumerate(places):
        where: dict[str, int] = dict(zip(AXES, place, strict=True))
        sizes: dict[str, int] = dict(zip(AXES, SIZES, strict=True))
        part = []
        for entry in cuts(axes):
            index = 0
            for axis in entry:
                index = index * sizes[axis] + where[axis]
            part.append(index)
        found.setdefault(tuple(part), []).append(device)
    return found


def draw() -> str:
    """Returns the figure as SVG."""
    parts: list[str] = []
    y = _devices(parts, 46)
    parts.append(_text(LEFT, y, "Each array, and which devices hold which part of it:"))
    y += 32
    for title, axes in arrays().items():
        y = _array(parts, title, axes, y)
    width, height = 720, y
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _devices(parts: list[str], top: int) -> int:
    """Draws the devices: data and fsdp down, context and tensor across; returns the next row."""
    count = math.prod(SIZES)
    parts.append(_text(LEFT, 24, f"{count} devices: {_by(AXES, SIZES)}", bold=True))
    data, fsdp, context, tensor = SIZES
    for device, (d, f, c, t) in enumerate(itertools.product(*map(range, SIZES))):
        row, column = d * fsdp + f, c * tensor + t
        x = LEFT + 120 + column * CELL + c * GAP
        y = top + 20 + row * CELL + d * GAP
        parts.append(_cell(x, y, CELL, CELL, "#e4e4e7", str(device)))
        if column == 0:
            parts.append(_text(x - 10, y + 21, f"data {d}, fsdp {f}", end=True))
        if row == 0:
            parts.append(_text(x + CELL / 2, y - 6, f"{c},{t}", middle=True))
    across = context * tensor * CELL + (context - 1) * GAP
    parts.append(_text(LEFT + 120 + across + 14, top + 14, "context, tensor"))
    return top + 20 + data * fsdp * CELL + (data - 1) * GAP + 44


def _array(parts: list[str], title: str, axes: Axes, top: int) -> int:
    """Draws an array with the devices that hold each part; returns the next row."""
    spec = cuts(axes)
    named = [(axis, " x ".join(entry)) for axis, entry in zip(axes, spec, strict=True) if entry]
    names = ", ".join(f"{axis} over {over}" for axis, over in named) or "whole on every device"
    parts.append(_text(LEFT, top, title, bold=True))
    parts.append(_text(LEFT + 300, top, names))
    found = holders(axes)
    cut = [k for k, entry in enumerate(spec) if entry]
    counts = [1 + max(part[k] for part in found) for k in cut]
    rows, columns = (*counts, 1, 1)[:2]
    width = 672 / columns
    for number, (part, devices) in enumerate(sorted(found.items())):
        place = [part[k] for k in cut]
        row, column = (*place, 0, 0)[:2]
        parts.append(
            _cell(
                LEFT + column * width,
                top + 10 + row * 26,
                width,
                26,
                COLOURS[number % len(COLOURS)],
                _numbers(devices),
            )
        )
    return top + 10 + rows * 26 + 34


def _numbers(devices: Sequence[int]) -> str:
    if len(devices) == math.prod(SIZES):
        return "all devices"
    return ", ".join(map(str, devices))


def _by(names: Sequence[str], sizes: Sequence[int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))


def _cell(x: float, y: float, width: float, height: float, fill: str, text: str) -> str:
    box = f'x="{x:g}" y="{y:g}" width="{width - 2:g}" height="{height - 2:g}" rx="3"'
    middle = _text(x + width / 2 - 1, y + height / 2 + 3, text, middle=True)
    return f'<rect {box} fill="{fill}" fill-opacity="0.45"/>{middle}'


def _text(
    x: float, y: float, text: str, *, bold: bool = False, middle: bool = False, end: bool = False
) -> str:
    anchor = ' text-anchor="middle"' if middle else ' text-anchor="end"' if end else ""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="#27272a"{anchor}{weight}>{text}</text>'


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
