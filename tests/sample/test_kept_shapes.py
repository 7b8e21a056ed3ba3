"""Shapes of parameters that are kept beside compiled programs."""

import jax
import pytest

from ditfuse_jax import registry
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import PROGRAMS_VARIABLE
from ditfuse_jax.model import preset
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.sample import kept_shapes
from ditfuse_jax.xla import kept_programs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(registry, "_outside", 0)
    monkeypatch.setattr(kept_programs, "loaded_extensions", lambda: ())
    return tmp_path


@pytest.fixture(scope="module")
def partitioner():
    return Partitioner(make_mesh(MeshConfig(), jax.local_devices()[:1]))


@pytest.fixture(scope="module")
def expected(partitioner):
    return abstract_model(preset("nano"), partitioner, frozen=True)


def _equal(one, other):
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), one, other)
    equivalent = jax.tree.map(
        lambda a, b: a.sharding.is_equivalent_to(b.sharding, len(a.shape)), one, other
    )
    return all(jax.tree.leaves(same)) and all(jax.tree.leaves(equivalent))


def test_kept_shapes_are_those_of_the_model(folder, partitioner, expected, monkeypatch):
    assert _equal(kept_shapes.frozen_shapes(preset("nano"), partitioner), expected)
    monkeypatch.setattr(kept_shapes, "abstract_model", None)  # not needed again
    assert _equal(kept_shapes.frozen_shapes(preset("nano"), partitioner), expected)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 3}'])
def test_a_damaged_file_is_replaced(folder, partitioner, expected, content):
    kept_shapes.frozen_shapes(preset("nano"), partitioner)
    (path,) = folder.iterdir()
    path.write_text(content, encoding="utf-8")
    assert _equal(kept_shapes.frozen_shapes(preset("nano"), partitioner), expected)
    assert path.read_text(encoding="utf-8") != content


def test_a_full_disk_changes_nothing(folder, partitioner, expected, monkeypatch):
    def full(path, text):
        raise UserError(f"{path} cannot be written (No space left on device)")

    monkeypatch.setattr(kept_shapes, "write_text", full)
    assert _equal(kept_shapes.frozen_shapes(preset("nano"), partitioner), expected)
    assert not list(folder.iterdir())
