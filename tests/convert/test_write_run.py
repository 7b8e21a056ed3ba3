"""Conversion to a run folder."""

import jax
import numpy as np
import pytest

from ditfuse_jax import api
from ditfuse_jax.convert import write_run
from ditfuse_jax.weights import open_checkpoint


def _shape(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size,), np.uint8)


def test_small_parameters_share_a_group_and_large_ones_are_alone():
    limit = write_run._GROUP_BYTES
    sizes = {"a": 3, "b": limit - 3, "c": 1, "d": 2 * limit, "e": 5, "f": 6}
    shapes = {(name,): _shape(size) for name, size in sizes.items()}
    groups = [["".join(path) for path in group] for group in write_run._groups(shapes)]
    assert groups == [["a", "b"], ["c"], ["d"], ["e", "f"]]


@pytest.mark.medium
@pytest.mark.slow
def test_a_checkpoint_written_in_several_groups_holds_every_parameter(monkeypatch, tmp_path):
    monkeypatch.setattr(write_run, "_GROUP_BYTES", 4 << 20)
    source = open_checkpoint("small")
    groups = write_run._groups(source.shapes())
    assert 1 < len(groups) < len(source.shapes())
    api.convert("small", tmp_path / "run", to="run", quiet=True)
    written = open_checkpoint(tmp_path / "run")
    assert written.shapes().keys() == source.shapes().keys()
    for path in source.shapes():
        np.testing.assert_array_equal(written.read_leaf(path), source.read_leaf(path))
