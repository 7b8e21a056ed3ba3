"""The TPU compiler, if it is installed (`pip install '.[compile]'`); no TPU is needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ditfuse_jax.aot import CompileConfig, Topology
from ditfuse_jax.aot.cached_compile import compile_lowered
from ditfuse_jax.aot.report import make_report
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import make_mesh
from ditfuse_jax.parallel.accelerators import TPUS


@pytest.fixture(scope="module", autouse=True)
def tpu_compiler():
    pytest.importorskip("libtpu", reason="the TPU compiler (libtpu) is not installed")


SIDE = 4096


def products(devices):
    """Lowers two matrix products with weights in eight shards."""
    mesh = make_mesh(CompileConfig("nano").recipe(8, 1).mesh, devices)

    def abstract(*spec):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct((SIDE, SIDE), jnp.bfloat16, sharding=sharding)

    rows, weights = abstract("fsdp"), abstract("fsdp")
    return jax.jit(lambda x, w: jnp.tanh(x @ w) @ w).lower(rows, weights)


def test_a_program_for_eight_chips_has_the_expected_work_and_is_cached(tmp_path):
    topology = Topology.parse("v5e:2x4")
    lowered = products(topology.devices())
    first = compile_lowered(lowered, str(topology), tmp_path)
    report = make_report("products", {}, first, {}, 0.0, TPUS["v5e"], [0] * 8)
    assert report.fits
    assert report.work is not None
    assert report.work.flops == pytest.approx(2 * 2 * SIDE**3 / 8, rel=0.01)
    gathered = 7 / 8 * SIDE * SIDE * 2
    assert 0.9 * gathered < sum(report.collective_bytes.values()) < 2.1 * gathered
    again = compile_lowered(lowered, str(topology), tmp_path)
    assert again.cached
    assert again.bytes == first.bytes


def test_a_program_that_does_not_fit_is_reported_with_its_size(tmp_path):
    topology = Topology.parse("v5e:2x4")
    sharding = jax.sharding.SingleDeviceSharding(topology.devices()[0])
    large = jax.ShapeDtypeStruct((60_000, 60_000), jnp.bfloat16, sharding=sharding)
    lowered = jax.jit(lambda x: jnp.tanh(x @ x) @ jnp.sin(x)).lower(large)
    done = compile_lowered(lowered, str(topology), tmp_path)
    report = make_report("large", {}, done, {}, 0.0, TPUS["v5e"], [0])
    assert not report.fits
    assert report.bytes["needed"] > report.bytes["available"]


@pytest.mark.parametrize("text", ["v5e:2x4", "v5p:2x2x2", "v6e:4x4", "v7x:2x2x1"])
def test_the_compiler_supports_every_family(text):
    topology = Topology.parse(text)
    cores = 2 if topology.family == "v7x" else 1
    assert len(topology.devices()) == cores * topology.chips


def test_across_slices_only_the_batch_is_sharded():
    devices = Topology.parse("v6e:4x4", slices=2).devices()
    mesh = make_mesh(CompileConfig("omnigen").recipe(32, 2).mesh, devices)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 16, "context": 1, "tensor": 1}
    slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    assert [set(row.ravel()) for row in slices] == [{0}, {1}]


def test_an_unsupported_shape_is_refused():
    with pytest.raises(UserError, match="v5e:3x7"):
        Topology.parse("v5e:3x7x9").devices()
