"""Which commands keep their working memory."""

import sys

import pytest

from ditfuse_jax import cli


@pytest.mark.parametrize("name, asks", [("train", True), ("bench", True), ("evaluate", False)])
def test_long_runs_of_few_programs_do(monkeypatch, name, asks):
    asked = []
    monkeypatch.setattr(cli, "keep_working_memory", lambda: asked.append(name))
    monkeypatch.setattr(sys, "argv", ["ditfuse", name])
    monkeypatch.setattr(cli, "main", lambda: 0)
    with pytest.raises(SystemExit):
        cli.command()
    assert asked == [name] * asks
