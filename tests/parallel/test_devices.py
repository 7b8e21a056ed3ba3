"""The model on a mesh of eight simulated CPU devices."""

import pytest

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def report(on_eight_devices):
    """Output of `eight_devices.py`."""
    found = on_eight_devices("parallel/eight_devices.py")
    assert found["devices"] == 8
    return found


MESHES = ("data fsdp tensor", "data context tensor")


@pytest.mark.parametrize("mesh", MESHES)
def test_a_forward_pass_on_a_mesh_equals_one_device(report, mesh):
    assert report["meshes"][mesh]["error"] < 1e-5


def test_parameters_are_sharded(report):
    found = report["meshes"]["data fsdp tensor"]
    layers, inner, width = found["kernel"]
    assert found["kernel_shard"] == [layers, inner // 2, width // 2]


@pytest.mark.parametrize("mesh", MESHES)
def test_mesh_axes_have_their_names_and_automatic_types(report, mesh):
    found = report["meshes"][mesh]
    assert list(found["axes"]) == ["data", "fsdp", "context", "tensor"]
    assert [axis for axis, size in found["axes"].items() if size == 2] == mesh.split()
    assert found["types"] == ["Auto"] * 4


def test_a_mesh_can_use_a_subset_of_the_devices(report):
    assert report["subset"] == {"data": 2, "fsdp": 1, "context": 1, "tensor": 2}


def test_cross_slice_factors_on_one_slice_are_refused_by_name(report):
    assert "dcn_data" in report["cross"]
    assert "Error" not in report["cross"]
