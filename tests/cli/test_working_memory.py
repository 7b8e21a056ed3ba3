"""Which commands keep working memory between steps."""

import sys

import pytest

from ditfuse_jax import cli


@pytest.mark.parametrize(
    "words, keeps",
    [
        ("train", True),
        ("bench", True),
        ("fuse vis.MP4 ir.mkv -o x.mp4", True),
        ("fuse vis.png ir.png -o x.png", False),
        ("evaluate", False),
        ("", False),
    ],
)
def test_only_training_benchmarks_and_videos_keep_working_memory(monkeypatch, words, keeps):
    called = []
    monkeypatch.setattr(cli, "keep_working_memory", lambda: called.append(words))
    monkeypatch.setattr(sys, "argv", ["ditfuse", *words.split()])
    monkeypatch.setattr(cli, "main", lambda: 0)
    monkeypatch.setattr(cli, "exit_quickly", sys.exit)  # it would end the tests
    with pytest.raises(SystemExit):
        cli.command()
    assert called == [words] * keeps
