"""The memory of a training step: its parts, and the settings that would take less."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import preset
from ditfuse_jax.parallel import AXES, Partitioner
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.memory import StepMemory, checkpoint_bytes, checkpoints
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.out_of_memory import remedies
from ditfuse_jax.train.state import Frozen, abstract_state
from ditfuse_jax.xla.memory import MemorySizes


def partitioner(**sizes: int) -> Partitioner:
    mesh: Any = AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES)
    return Partitioner(mesh)


def step_memory(placed: Partitioner, *overrides: str) -> StepMemory:
    """Returns the memory of a step of the recipe `nano_m3` with two images."""
    recipe = resolve(load_recipe("nano_m3", [f"--config.{text}" for text in overrides]))
    ema = recipe.step.ema_decay > 0
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    state = abstract_state(recipe.network, optimizer, ema, placed)
    size, side = recipe.data.batch_size, (64, 64, 3)
    batch = {
        name: jax.ShapeDtypeStruct((size, *shape), jnp.uint8, sharding=placed.batch())
        for name, shape in {"images": (2, *side), "target": side}.items()
    }
    return StepMemory.of(recipe, placed, state, Frozen({}, {}), batch)


def test_policies_that_save_less_need_fewer_bytes():
    model = preset("omnigen")
    sizes = [
        checkpoint_bytes(dataclasses.replace(model, remat=name), partitioner(fsdp=8), 8, 100)
        for name in ("projections", "attention", "full", "offload")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    assert sizes[2] == 32 * 100 * 3072 * 2  # bfloat16 layer inputs of one example


def test_a_policy_that_saves_everything_has_no_list():
    with pytest.raises(UserError, match="remat=none saves all values"):
        checkpoints(dataclasses.replace(preset("omnigen"), remat="none"), 1, 8)


def test_the_parts_of_a_step_add_up_to_its_arrays_on_a_device():
    whole, sharded = (step_memory(partitioner(fsdp=n), "data.batch_size=8") for n in (1, 8))
    assert whole.arguments["moments"] == pytest.approx(2 * whole.arguments["parameters"], rel=1e-3)
    assert whole.arguments["averaged parameters"] == whole.gradients
    assert whole.arguments["batch"] == 8 * 3 * 64 * 64 * 3
    assert sharded.arguments["batch"] == whole.arguments["batch"] // 8
    assert sharded.arguments["parameters"] < whole.arguments["parameters"] / 7


def test_the_table_shows_the_compiler_s_sizes_and_the_largest_buffers():
    memory = step_memory(partitioner(), "data.batch_size=8")
    sizes = MemorySizes(3 * 2**30, 2 * 2**30, 2**30, 5 * 2**30, 2**20)
    done = dataclasses.replace(memory, sizes=sizes, buffers=[("f32[9] of dot", 2**29)])
    lines = done.table("the step", 16 * 2**30).splitlines()
    assert lines[0] == "memory of the step on a device: 9.00 GiB of 16.00 GiB"
    sizes = [line.split("  ")[-2].strip() for line in lines[1:] if "f32" not in line]
    assert sizes == ["3.00 GiB", "2.00 GiB", "5.00 GiB", "1 MiB"]
    assert "512 MiB    f32[9] of dot" in lines[4]


def names(found) -> list[str]:
    return [remedy.settings.split()[0].removeprefix("--config.") for remedy in found]


def test_remedies_are_ordered_by_what_they_save_and_fit_the_run():
    memory = step_memory(
        partitioner(data=4), "data.batch_size=32", "model.remat=attention", "flow.draws=4"
    )
    found = remedies(memory, total=sum(memory.arguments.values()) + memory.gradients + 2**33)
    saved = [remedy.saves for remedy in found]
    assert saved == sorted(saved, reverse=True) and min(saved) > 0
    assert set(names(found)) == {
        "train.accumulation=2",
        "data.batch_size=16",
        "model.remat=full",
        "flow.draws=1",
        "mesh.data=1",
        "train.ema_decay=0",
    }
    by_name = dict(zip(names(found), saved, strict=True))
    assert by_name["data.batch_size=16"] == 2**33 // 2
    assert by_name["train.accumulation=2"] == 2**33 // 2 - memory.gradients
    assert by_name["train.ema_decay=0"] == memory.arguments["averaged parameters"]


def test_remedies_leave_out_what_the_run_has_already():
    memory = step_memory(
        partitioner(fsdp=4),
        *("data.batch_size=4", "model.remat=full", "train.ema_decay=0", "flow.draws=1"),
    )
    found = names(remedies(memory, total=2**33))
    assert found == ["model.remat=offload"]  # one example per device, one draw, no replicas


def test_each_remedy_is_an_override_that_a_recipe_accepts_and_needs_less():
    overrides = ("data.batch_size=24", "model.remat=projections", "flow.draws=3")
    memory = step_memory(partitioner(data=4), *overrides)
    for remedy in remedies(memory):
        words = [w for w in remedy.settings.split() if w.startswith("--config.")]
        changed = step_memory(
            partitioner(fsdp=4) if "fsdp" in remedy.settings else partitioner(data=4),
            *overrides,
            *(word.removeprefix("--config.") for word in words),
        )
        total = [sum(m.arguments.values()) + m.gradients + m.saved for m in (changed, memory)]
        assert total[0] < total[1], remedy
