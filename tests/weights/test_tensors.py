"""Safetensors files, one tensor at a time."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.weights import open_tensors, write_safetensors


@pytest.fixture
def values():
    random = np.random.default_rng(0)
    return {
        "a": random.standard_normal((5, 3)).astype(np.float32),
        "b": random.standard_normal((2, 3, 4)).astype(ml_dtypes.bfloat16),
        "c": random.standard_normal(7).astype(np.float16),
        "empty": np.zeros((0, 2), np.float32),
    }


def assert_same(tensors, values):
    assert tensors.names == set(values)
    for name, value in values.items():
        assert tensors.shape(name) == value.shape
        assert tensors.dtype(name) == value.dtype
        np.testing.assert_array_equal(tensors.read(name), value)


def test_files_of_the_library_are_read(values, tmp_path):
    save_file(values, tmp_path / "model.safetensors")
    assert_same(open_tensors(tmp_path / "model.safetensors"), values)
    assert_same(open_tensors(tmp_path), values)


def test_the_library_reads_our_files(values, tmp_path):
    specs = {name: (value.dtype, value.shape) for name, value in values.items()}
    write_safetensors(tmp_path / "x.safetensors", specs, values.__getitem__, {"format": "pt"})
    found = load_file(tmp_path / "x.safetensors")
    assert set(found) == set(values)
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    with (tmp_path / "x.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    assert length % 8 == 0  # tensors start aligned


@pytest.mark.parametrize("rows", [slice(0, 2), slice(3, None), slice(None), slice(4, 4)])
def test_some_rows_are_read_alone(values, tmp_path, rows):
    save_file(values, tmp_path / "model.safetensors")
    tensors = open_tensors(tmp_path)
    np.testing.assert_array_equal(tensors.read("a", rows), values["a"][rows])


def test_shards_are_joined_by_their_index(values, tmp_path):
    save_file({"a": values["a"]}, tmp_path / "one.safetensors")
    save_file({"b": values["b"], "c": values["c"]}, tmp_path / "two.safetensors")
    where = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert_same(open_tensors(tmp_path), {name: values[name] for name in "abc"})


class TestRefused:
    """Damaged files are refused with the path and a remedy."""

    def test_a_missing_shard(self, values, tmp_path):
        where = {"a": "one.safetensors"}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        with pytest.raises(UserError, match=r"names the shard one\.safetensors, which is missing"):
            open_tensors(tmp_path)

    def test_a_shard_without_its_tensor(self, values, tmp_path):
        save_file({"b": values["b"]}, tmp_path / "one.safetensors")
        where = {"a": "one.safetensors"}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        with pytest.raises(UserError, match=r"one\.safetensors lacks tensor a"):
            open_tensors(tmp_path)

    @pytest.mark.parametrize("where", [[], ["a"], {"a": 3}, "a"])
    def test_an_index_that_names_no_files(self, tmp_path, where):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        with pytest.raises(UserError, match=r"index\.json is not an index of shards: .*weight_map"):
            open_tensors(tmp_path)

    @pytest.mark.parametrize("kept", [0, 5, 20, -1])
    def test_a_file_cut_short(self, values, tmp_path, kept):
        path = tmp_path / "model.safetensors"
        save_file(values, path)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(UserError, match=r"model\.safetensors .*get it again"):
            open_tensors(path)

    @pytest.mark.parametrize("header", [b"{", b"[1]", b'{"a": 1}', b'{"a": {"dtype": "F32"}}'])
    def test_an_unreadable_header(self, tmp_path, header):
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        with pytest.raises(UserError, match="unreadable header"):
            open_tensors(path)

    def test_a_shape_that_contradicts_the_bytes(self, tmp_path):
        header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        with pytest.raises(UserError, match=r"range of tensor a does not fit its shape \(3,\)"):
            open_tensors(path)

    def test_an_unsupported_type_is_refused_when_it_is_read(self, tmp_path):
        save_file({"a": np.zeros(3, np.int8)}, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match="tensor a has type I8; only F32, BF16, F16"):
            open_tensors(tmp_path).read("a")

    @pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "x.ckpt"])
    @pytest.mark.parametrize("by_folder", [True, False])
    def test_a_pickle_with_a_command_that_converts_it(self, tmp_path, name, by_folder):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=r"reading a pickle runs the code in it") as caught:
            open_tensors(tmp_path if by_folder else tmp_path / name)
        assert f"torch.load('{name}', weights_only=True)" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match="holds no safetensors file"):
            open_tensors(tmp_path)
        with pytest.raises(UserError, match="no such file"):
            open_tensors(tmp_path / "none.safetensors")

    def test_several_files_without_index(self, values, tmp_path):
        for name in ("one", "two"):
            save_file(values, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match="2 safetensors files and no index"):
            open_tensors(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(values, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def fail(name):
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        write_safetensors(path, {"a": (np.float32, (5, 3))}, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == b"old"
