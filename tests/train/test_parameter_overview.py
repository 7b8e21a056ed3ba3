"""The table of the parameters at the start of a run."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from ditfuse_jax.train.parameter_overview import (
    describe_sharding,
    list_parameters,
    parameter_summary,
    parameter_table,
)

MESH = AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))


def array(*shape, dtype=jnp.float32, spec=()):
    sharding = NamedSharding(MESH, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


@pytest.fixture
def parameters():
    tree = {
        "transformer": {
            "layers": {"kernel": array(8, 16, 4, spec=(None, "fsdp", "tensor"))},
            "norm": array(16),
        },
        "head": {"bias": array(6)},
    }
    return list_parameters(trained=tree, base={"w": array(4, 4, dtype=jnp.bfloat16)})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ((), "whole"),
        (("data",), "whole"),
        ((None, "fsdp"), "-,fsdp"),
        ((("data", "fsdp"), "tensor"), "fsdp,tensor"),
        ((("fsdp", "tensor"),), "fsdp+tensor,-"),
    ],
)
def test_shardings_name_the_axes_that_divide_each_dimension(spec, text):
    assert describe_sharding(NamedSharding(MESH, PartitionSpec(*spec)), 2) == text


def test_every_array_is_listed_with_its_shape_sharding_and_bytes_on_a_device(parameters):
    table = parameter_table(parameters).splitlines()
    assert len(table) == 1 + 4 + 1
    (row,) = [line.split() for line in table if line.startswith("transformer/layers/kernel")]
    assert row[1:] == ["trained", "8x16x4", "512", "float32", "-,fsdp,tensor", "256"]
    (row,) = [line.split() for line in table if line.startswith("base/w")]
    assert row[1:] == ["frozen", "4x4", "16", "bfloat16", "whole", "32"]
    assert table[-1].startswith("534 trained parameters")
    assert "16 frozen parameters" in table[-1]


def test_the_short_table_is_bounded_and_its_groups_hold_every_parameter():
    tree = {f"block{i}": {f"part{j}": array(i + 1, j + 1) for j in range(9)} for i in range(40)}
    parameters = list_parameters(trained=tree)
    lines = parameter_summary(parameters).splitlines()
    assert len(lines) == 1 + 17 + 1
    counts = [int(line.split()[-3].replace(",", "")) for line in lines[1:-1]]
    assert sum(counts) == sum(p.count for p in parameters)
    assert lines[-2].startswith("24 more")


def test_small_trees_are_shown_array_by_array(parameters):
    text = parameter_summary(parameters)
    assert "transformer/layers/kernel" in text
    assert math.prod((8, 16, 4)) == 512 and "512" in text
