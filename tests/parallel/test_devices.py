"""The model on a real mesh, of eight devices that a CPU pretends to have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def report():
    """What `eight_devices.py` found."""
    paths = [str(ROOT), str(HERE.parent / "model"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(HERE / "eight_devices.py")],
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    return found


MESHES = ("data fsdp tensor", "data context tensor")


@pytest.mark.parametrize("mesh", MESHES)
def test_a_forward_pass_on_a_mesh_equals_one_device(report, mesh):
    assert report["meshes"][mesh]["error"] < 1e-5


def test_parameters_really_are_spread(report):
    spread = report["meshes"]["data fsdp tensor"]
    layers, inner, width = spread["kernel"]
    assert spread["kernel_shard"] == [layers, inner // 2, width // 2]


@pytest.mark.parametrize("mesh", MESHES)
def test_mesh_axes_are_named_in_order_and_left_to_the_compiler(report, mesh):
    found = report["meshes"][mesh]
    assert list(found["axes"]) == ["data", "fsdp", "context", "tensor"]
    assert [axis for axis, size in found["axes"].items() if size == 2] == mesh.split()
    assert found["types"] == ["Auto"] * 4


def test_a_mesh_can_take_some_of_the_devices(report):
    assert report["subset"] == {"data": 2, "fsdp": 1, "context": 1, "tensor": 2}


def test_cross_slice_factors_on_one_slice_are_refused_by_name(report):
    assert "cross_data" in report["cross"]
    assert "Error" not in report["cross"]
