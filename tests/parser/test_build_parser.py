"""Bad input of `data/build_parser.py`, which trains the parser."""

import importlib.util
import pickle
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARSER = str(ROOT / "data" / "parser")


@pytest.fixture
def refused(monkeypatch, capsys):
    """Runs the script with words that it refuses; returns the last line that it prints."""
    spec = importlib.util.spec_from_file_location("build_parser", ROOT / "data" / "build_parser.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["build_parser.py", *words])
        with pytest.raises(SystemExit) as stop:
            script.main()
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize("content", [pickle.dumps((3, {}, ())), b"", b"\x80\x04half"])
def test_a_training_that_cannot_be_continued_is_refused_and_kept(refused, tmp_path, content):
    saved = tmp_path / "training.pickle"
    saved.write_bytes(content)
    line = refused("--workdir", str(tmp_path), "--parser", PARSER)
    assert f"{saved} is damaged or of another version of this script" in line
    assert saved.read_bytes() == content


def test_layers_are_added_to_a_parser_not_taken_away(refused, tmp_path):
    words = ["--workdir", str(tmp_path / "run"), "--parser", PARSER, "--layers", "1"]
    line = refused(*words, "--encoder", str(tmp_path / "encoder"))
    assert f"--layers 1: {PARSER} has" in line
    assert "needs --encoder" in refused(*words)
    assert not list(tmp_path.iterdir())
