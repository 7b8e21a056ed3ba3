"""The sharding rules: how every tensor is placed on a mesh."""

from pathlib import Path
from typing import Any

import jax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import DiTFuse, preset
from ditfuse_jax.model.logical_axes import axes_of
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.parallel import AXES, RULES, Partitioner, shard_like

GOLDEN = Path(__file__).parent / "golden"


def mesh(data: int = 1, fsdp: int = 1, context: int = 1, tensor: int = 1) -> Any:
    """Returns a mesh without devices."""
    return AbstractMesh((data, fsdp, context, tensor), AXES)


@pytest.fixture(scope="module")
def omnigen():
    """Abstract parameters of the preset `omnigen`."""
    return nnx.state(nnx.eval_shape(lambda: DiTFuse(preset("omnigen"), rngs=nnx.Rngs(0))))


def table(state: nnx.State, partitioner: Partitioner) -> str:
    """Returns one line per parameter: name, shape with axis names, partition spec."""
    lines = []
    for path, variable in nnx.to_flat_state(state):
        name, axes = ".".join(map(str, path)), axes_of(variable)
        sharding = partitioner.parameter(axes, variable.shape, name)
        shape = " ".join(f"{axis or '_'}:{n}" for axis, n in zip(axes, variable.shape, strict=True))
        lines.append(f"{name}  [{shape}]  {tuple(sharding.spec)}")
    return "\n".join(lines) + "\n"


def test_every_parameter_of_omnigen_is_sharded_as_in_the_golden_table(omnigen):
    """After a deliberate change of the rules, store the new table in the golden file."""
    partitioner = Partitioner(mesh(data=2, fsdp=8, context=2, tensor=4))
    assert table(omnigen, partitioner) == (GOLDEN / "omnigen.txt").read_text()


def test_every_kernel_is_sharded_over_fsdp(omnigen):
    partitioner = Partitioner(mesh(fsdp=8))
    for path, variable in nnx.to_flat_state(omnigen):
        if len(axes_of(variable)) >= 2 and path[-1] == "kernel":
            spec = partitioner.spec(axes_of(variable))
            assert "fsdp" in spec, path


def test_parameter_shardings_have_the_structure_of_the_parameters(omnigen):
    shardings = Partitioner(mesh(fsdp=8)).parameters(omnigen)
    placed = shard_like(nnx.to_pure_dict(omnigen), shardings)
    assert placed["embed_tokens"].shape == (32064, 3072)
    assert placed["embed_tokens"].sharding.spec == PartitionSpec(None, "fsdp")
    assert jax.tree.structure(placed) == jax.tree.structure(nnx.to_pure_dict(omnigen))


def test_mesh_axes_of_one_device_are_left_out():
    partitioner = Partitioner(mesh(tensor=2))
    assert partitioner.spec(("vocab", "embed")) == PartitionSpec("tensor", None)
    assert Partitioner(mesh()).spec(("batch", "sequence")) == PartitionSpec(None, None)


def test_rules_that_map_two_dimensions_to_one_mesh_axis_are_an_error_naming_the_tensor():
    partitioner = Partitioner(mesh(fsdp=2, tensor=2), dict(RULES) | {"mlp": ("tensor", "fsdp")})
    with pytest.raises(UserError, match=r"mlp\.kernel: .*'embed' and 'mlp'.*'fsdp'"):
        partitioner.parameter(("embed", "mlp"), (8, 8), "mlp.kernel")


def test_two_dimensions_of_one_name_conflict_too():
    with pytest.raises(UserError, match=r"square: .*'embed' and 'embed'"):
        Partitioner(mesh(fsdp=2)).parameter(("embed", "embed"), (8, 8), "square")


def test_an_axis_without_a_rule_is_an_error_naming_the_tensor():
    with pytest.raises(UserError, match=r"router\.kernel: .*'expert'"):
        Partitioner(mesh()).parameter(("expert", "embed"), (4, 8), "router.kernel")


def test_an_indivisible_dimension_is_an_error_naming_the_tensor(omnigen):
    message = r"o_proj\.kernel: dimension 'heads' of size 32 .* 64 devices of mesh axes tensor"
    with pytest.raises(UserError, match=message):
        Partitioner(mesh(tensor=64)).parameters(omnigen)


@pytest.mark.parametrize("fsdp", [16, 32, 128])
def test_blocks_of_quantised_kernels_are_sharded_where_they_can_be(fsdp):
    """The 3072 inputs of an output are 48 blocks of nf4."""
    _, state = make_graph(Network(preset("omnigen"), quantize="nf4"))
    layers = Partitioner(mesh(fsdp=fsdp, tensor=2)).parameters(state)["transformer"]["layers"]
    blocks = "fsdp" if fsdp == 16 else None
    codes = layers["self_attn"]["qkv_proj"]["codes"]
    assert codes.spec == PartitionSpec(None, blocks, None, "tensor")


def test_an_indivisible_dimension_of_an_activation_is_not_sharded():
    partitioner = Partitioner(mesh(data=2, context=4))
    sharding = partitioner.activation(("batch", "sequence", "activation"), (6, 10, 32))
    assert sharding.spec == PartitionSpec("data", None, None)


def test_batches_are_sharded_over_data_and_fsdp():
    assert Partitioner(mesh(data=2, fsdp=4, tensor=2)).batch().spec == PartitionSpec(
        ("data", "fsdp")
    )


@pytest.mark.parametrize("size", [8, 24])
def test_batches_divisible_by_shards_and_accumulation_are_accepted(size):
    Partitioner(mesh(data=2, fsdp=2)).check_batch(size, accumulation=2)


@pytest.mark.parametrize(("size", "nearest"), [(9, 8), (15, 16), (1, 8), (0, 8)])
def test_other_batches_are_refused_with_the_nearest_size_that_fits(size, nearest):
    message = rf"data\.batch_size {size} .*\b8\b.*accumulation 2.*use e\.g\. {nearest}$"
    with pytest.raises(UserError, match=message):
        Partitioner(mesh(data=2, fsdp=2)).check_batch(size, accumulation=2)
