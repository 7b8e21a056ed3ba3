"""Which commands keep working memory between steps."""

import sys

import pytest

from ditfuse_jax import cli


@pytest.mark.parametrize("name, keeps", [("train", True), ("bench", True), ("evaluate", False)])
def test_only_training_and_benchmarks_keep_working_memory(monkeypatch, name, keeps):
    called = []
    monkeypatch.setattr(cli, "keep_working_memory", lambda: called.append(name))
    monkeypatch.setattr(sys, "argv", ["ditfuse", name])
    monkeypatch.setattr(cli, "main", lambda: 0)
    with pytest.raises(SystemExit):
        cli.command()
    assert called == [name] * keeps
