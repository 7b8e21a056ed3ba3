"""Sizes of compiled programs, their largest buffers, and the compiler's out-of-memory messages."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from ditfuse_jax.parallel import AXES, Partitioner
from ditfuse_jax.xla import memory
from ditfuse_jax.xla.hlo import parse_hlo
from ditfuse_jax.xla.memory import (
    device_bytes,
    device_memory,
    largest_allocations,
    largest_buffers,
    memory_sizes,
    out_of_memory_bytes,
    readable,
)

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


def test_needed_and_available_bytes_are_read_from_both_messages():
    assert out_of_memory_bytes(SHORT) == (int(26.84 * 2**30), int(15.75 * 2**30))
    assert out_of_memory_bytes(LONG) == (int(20.5 * 2**30), int(15.75 * 2**30))
    assert out_of_memory_bytes("RESOURCE_EXHAUSTED: no numbers") is None


def test_the_largest_allocations_are_first():
    assert largest_allocations(LONG) == [
        ("f32[3,1024] of jit(step)/dot_general", 6 * 2**30),
        ("bf16[8,128]", 512 * 2**20),
    ]


def test_device_bytes_count_one_shard_of_each_array():
    mesh: Any = AbstractMesh(tuple(4 if axis == "fsdp" else 1 for axis in AXES), AXES)
    placed = Partitioner(mesh)
    whole = jax.ShapeDtypeStruct((8, 3), jax.numpy.float32, sharding=placed.replicated())
    rows = jax.ShapeDtypeStruct((8, 3), jax.numpy.bfloat16, sharding=placed.batch())
    assert device_bytes({"a": whole, "b": rows}) == 8 * 3 * 4 + 2 * 3 * 2


def compiled(function, *shapes, **options):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function, **options).lower(*arguments).compile()


def test_sizes_are_those_of_the_arguments_and_results():
    done = compiled(lambda x, y: (x + 1, y @ y), (100,), (32, 32), donate_argnums=0)
    sizes = memory_sizes(done)
    assert sizes is not None
    assert sizes.arguments == 4 * (100 + 32 * 32)
    assert sizes.reused == 4 * 100  # x's memory
    assert sizes.outputs >= 4 * (100 + 32 * 32)  # CPUs add a table of pointers
    total = sizes.arguments + sizes.outputs - sizes.reused + sizes.temporaries + sizes.code
    assert sizes.total == total


def test_the_saved_values_of_a_scan_are_its_largest_buffer():
    def loss(weights, x):
        layer = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w) @ w.T, None))
        return jnp.sum(jax.lax.scan(layer, x, weights)[0])

    done = compiled(jax.grad(loss), (6, 32, 128), (500, 32))
    buffers = largest_buffers(parse_hlo(done.as_text()))
    sizes = [size for _, size in buffers]
    assert sizes == sorted(sizes, reverse=True)
    name, size = buffers[0]
    assert name.startswith("f32[6,500,32] of ") and size == 4 * 6 * 500 * 32


def test_inner_values_of_a_kernel_and_results_are_no_buffers():
    text = """
%inside (a: f32[64]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  ROOT %big = f32[64]{0} exponential(%a), metadata={op_name="inner"}
}

ENTRY %main (x: f32[64]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  %y = f32[64]{0} fusion(%x), kind=kLoop, calls=%inside, metadata={op_name="outer"}
  %z = f32[64]{0} fusion(%y), kind=kLoop, calls=%inside, metadata={op_name="outer"}
  ROOT %r = f32[64]{0} fusion(%z), kind=kLoop, calls=%inside, metadata={op_name="outer"}
}
"""
    assert largest_buffers(parse_hlo(text)) == [("2 x f32[64] of outer", 256)]


class Device:
    def __init__(self, **stats):
        self.stats = {f"{name}": value for name, value in stats.items()} or None

    def memory_stats(self):
        return self.stats


def test_the_fullest_device_s_memory_is_reported_and_cpus_report_none(monkeypatch):
    assert device_memory() == {} or jax.default_backend() != "cpu"
    full = Device(bytes_in_use=7, peak_bytes_in_use=9, bytes_limit=10)
    devices = [Device(bytes_in_use=5, peak_bytes_in_use=10, bytes_limit=10), full]
    monkeypatch.setattr(memory.jax, "local_devices", lambda: devices)
    assert device_memory() == {"in_use": 7, "peak": 9, "limit": 10}
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [Device()])
    assert device_memory() == {}


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 B"), (1536, "1.5 KiB"), (3 * 2**20, "3 MiB"), (5 * 2**30, "5.00 GiB")],
)
def test_bytes_are_printed_with_a_unit(size, text):
    assert readable(size) == text
