"""Failures of the environment end a command with one line and exit code 2."""

import os
import subprocess
import sys

import pytest

from ditfuse_jax.cli.environment import explain
from ditfuse_jax.images import read_metadata

pytestmark = [pytest.mark.medium, pytest.mark.processes]


@pytest.fixture
def ditfuse(tmp_path):
    """Runs the command in a process; returns exit code and the bytes of its two streams."""

    def run(*words, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "ditfuse_jax", *words],
            env=os.environ | variables,
            capture_output=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_platform_that_is_not_there_is_named(ditfuse, pair, checkpoint, tmp_path):
    words = ["fuse", *map(str, pair), "-o", str(tmp_path / "x.png"), "--checkpoint", checkpoint]
    code, _, errors = ditfuse(
        *words, JAX_PLATFORMS="tpu" if os.path.exists("/dev/nvidia0") else "cuda"
    )
    (line,) = errors.decode().strip().splitlines()
    assert code == 2 and line.startswith("ditfuse fuse: error: JAX has no device for ")
    assert "set JAX_PLATFORMS=cpu" in line


def test_names_that_the_output_cannot_show_are_escaped(ditfuse, pair, checkpoint, tmp_path):
    """An encoding without the letter, and a name that is not UTF-8."""
    for name in (b"n\xc3\xb6.png", b"\xff.png"):
        output = os.fsencode(tmp_path) + b"/" + name
        words = ["fuse", *map(str, pair), "-o", output, "--checkpoint", checkpoint]
        code, text, errors = ditfuse(*words, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert code == 0, errors
        assert os.path.exists(output)
        assert b"\\" in text and text.isascii()


def test_sources_whose_names_are_not_utf8_are_fused(ditfuse, pair, checkpoint, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    os.rename(pair[0], odd)
    words = ["fuse", odd, str(pair[1]), "-o", str(tmp_path / "x.png"), "--checkpoint", checkpoint]
    code, _, errors = ditfuse(*words)
    assert code == 0, errors
    assert read_metadata(tmp_path / "x.png")["sources"].endswith("b.png")


def test_a_file_that_cannot_be_used_is_named():
    error = PermissionError(13, "Permission denied", "/runs/mine/config.json")
    assert explain(error) == "/runs/mine/config.json: cannot be used (Permission denied)"
    assert explain(ValueError("a bug")) is None


def test_a_working_folder_that_was_removed_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    words = [sys.executable, "-m", "ditfuse_jax", "fuse", "a.png", "b.png", "-o", "x.png"]
    shell = 'cd "$0" && rmdir "$0" && exec "$@"'
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        ["sh", "-c", shell, tmp_path / "gone", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "ditfuse fuse: error: the working folder was removed or cannot be read: change to another"
        " one\n",
    )
