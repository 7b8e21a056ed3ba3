"""Methods: parsing of their names and folders."""

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.methods import parse_methods


def test_methods_are_named_by_the_argument_or_the_folder(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert list(parse_methods([str(tmp_path / "a=b")])) == ["fused"]
    assert list(parse_methods([str(tmp_path / "a=b")], beside_model=True)) == ["a=b"]
    named = parse_methods([f"Mine={tmp_path}", str(tmp_path / "a=b")])
    assert named == {"Mine": tmp_path, "a=b": tmp_path / "a=b"}
    for arguments in (["A=x", "A=y"], ["mean=x"], ["autoencoder_of_a=x"]):
        with pytest.raises(UserError, match="called '"):
            parse_methods(arguments)
