"""Memory per device in reports."""

import dataclasses
from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh

from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.memory import (
    checkpoint_bytes,
    checkpoints,
    device_bytes,
    largest_allocations,
    out_of_memory_bytes,
)
from ditfuse_jax.aot.report import make_report
from ditfuse_jax.errors import UserError
from ditfuse_jax.model import preset
from ditfuse_jax.parallel import AXES, Partitioner
from ditfuse_jax.parallel.accelerators import TPUS

# The two messages of the TPU compiler.
SHORT = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(26.84G) exceeds available HBM (15.75G)."
)
LONG = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space \
hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.

  Largest program allocations in hbm:

  1. Size: 6.00G
     Operator: op_name="jit(step)/dot_general"
     Shape: f32[3,1024]{1,0:T(8,128)}
     Allocation type: HLO temp
     ==========================

  2. Size: 512.00M
     Shape: bf16[8,128]{1,0}
     Allocation type: HLO temp
"""


def partitioner(**sizes: int) -> Partitioner:
    mesh: Any = AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES)
    return Partitioner(mesh)


def test_needed_and_available_bytes_are_read_from_both_messages():
    assert out_of_memory_bytes(SHORT) == (int(26.84 * 2**30), int(15.75 * 2**30))
    assert out_of_memory_bytes(LONG) == (int(20.5 * 2**30), int(15.75 * 2**30))
    assert out_of_memory_bytes("RESOURCE_EXHAUSTED: no numbers") is None


def test_the_largest_allocations_are_first():
    assert largest_allocations(LONG) == [
        ("f32[3,1024] of jit(step)/dot_general", 6 * 2**30),
        ("bf16[8,128]", 512 * 2**20),
    ]


def test_the_report_of_a_program_that_does_not_fit_lists_the_largest_consumers():
    refused = Compilation("", {}, 0.0, LONG, 1.0)
    consumers = {"parameters": 2**30, "moments": 2**31, "batch": 0}
    report = make_report("train", {}, refused, consumers, 1.0, TPUS["v5e"], [0])
    assert not report.fits
    text = "\n".join(report.lines())
    assert "DOES NOT FIT: needs 20.50 GiB of 16.00 GiB" in text
    places = [text.index(name) for name in ("jit(step)/dot_general", "moments", "parameters")]
    assert places == sorted(places)
    assert "batch" not in text


def test_a_program_that_compiles_but_is_too_large_does_not_fit():
    text = "ENTRY %main (a: f32[2]) -> f32[2] {\n  ROOT %a = f32[2]{0} parameter(0)\n}\n"
    sizes = {"argument": 15 * 2**30, "output": 2**30, "alias": 2**30, "temp": 2**31}
    done = Compilation(text, sizes, 0.0, "", 1.0)
    assert done.total_bytes == 17 * 2**30
    assert not make_report("train", {}, done, {}, 1.0, TPUS["v5e"], [0]).fits
    assert make_report("train", {}, done, {}, 1.0, TPUS["v6e"], [0]).fits


def test_device_bytes_count_one_shard_of_each_array():
    placed = partitioner(fsdp=4)
    whole = jax.ShapeDtypeStruct((8, 3), jax.numpy.float32, sharding=placed.replicated())
    rows = jax.ShapeDtypeStruct((8, 3), jax.numpy.bfloat16, sharding=placed.batch())
    assert device_bytes({"a": whole, "b": rows}) == 8 * 3 * 4 + 2 * 3 * 2


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
