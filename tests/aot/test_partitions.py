"""Golden shardings of the training state of `omnigen` on the machines that it is intended for.

After a deliberate change of the rules, `python tests/aot/test_partitions.py` writes the new tables.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh

from ditfuse_jax.aot import CompileConfig
from ditfuse_jax.model import Layout
from ditfuse_jax.parallel import AXES, Partitioner
from ditfuse_jax.train.memory import checkpoints
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.state import abstract_state

GOLDEN = Path(__file__).parents[1] / "golden" / "partitions"
# name -> devices of one slice, slices
MACHINES = {"v5p-128": (64, 1), "v6e-256": (256, 1), "2x-v6e-256": (256, 2), "8x-h100": (8, 1)}


def training(machine: str) -> tuple[Any, Partitioner, Any]:
    """Returns the recipe, a partitioner without devices, and the abstract state."""
    per_slice, slices = MACHINES[machine]
    recipe = CompileConfig("omnigen").recipe(per_slice * slices, slices)
    inner, cross = recipe.mesh.resolve(per_slice * slices)
    sizes = tuple(a * b for a, b in zip(inner, cross, strict=True))
    mesh: Any = AbstractMesh(sizes, AXES)
    partitioner = Partitioner(mesh)
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    return recipe, partitioner, abstract_state(recipe.network, optimizer, True, partitioner)


def table(machine: str) -> str:
    """Returns one line per leaf of the state and per saved value of a layer."""
    recipe, partitioner, state = training(machine)
    parts = {
        "parameters": state.parameters,
        "moments": state.optimizer,
        "averaged": state.ema,
    }
    lines = [f"mesh {dict(partitioner.mesh.shape)}, batch {recipe.data.batch_size}"]
    for part, tree in parts.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = part + jax.tree_util.keystr(path)
            lines.append(line(name, leaf.shape, leaf.sharding))
    model = dataclasses.replace(recipe.model, remat="projections")  # saves all named values
    first, middle, last = model.text_slots
    length = Layout((first, middle, last), (32, 32)).length
    for name, (axes, shape) in checkpoints(model, recipe.data.batch_size, length).items():
        lines.append(
            line(f"checkpoint of a layer: {name}", shape, partitioner.activation(axes, shape))
        )
    return "\n".join(lines) + "\n"


def line(name: str, shape: tuple[int, ...], sharding: Any) -> str:
    here = list(sharding.shard_shape(shape))
    return f"{name}  {list(shape)}  on a device {here}  {tuple(sharding.spec)}"


@pytest.mark.parametrize("machine", MACHINES)
def test_shardings_equal_the_golden_table(machine):
    assert table(machine) == (GOLDEN / f"{machine}.txt").read_text()


@pytest.mark.parametrize("machine", MACHINES)
def test_moments_and_averages_are_sharded_like_their_parameters(machine):
    _, _, state = training(machine)
    placed = [leaf.sharding for leaf in jax.tree.leaves(state.parameters)]
    assert [leaf.sharding for leaf in jax.tree.leaves(state.ema)] == placed
    moments = [leaf.sharding for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim]
    assert moments == placed * 2


@pytest.mark.parametrize("machine", MACHINES)
def test_nearly_the_whole_state_is_sharded(machine):
    _, partitioner, state = training(machine)
    leaves = jax.tree.leaves(state)
    whole = sum(leaf.size for leaf in leaves)
    here = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    assert (
        here < 1.02 * whole / partitioner.mesh.shape["fsdp"] + 3e6
    )  # norms and scalars are replicated


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in MACHINES:
        (GOLDEN / f"{name}.txt").write_text(table(name))
