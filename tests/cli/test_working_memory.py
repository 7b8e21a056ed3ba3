"""Which commands keep working memory between steps."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes  # `command` changes how a process handles Ctrl-C, and ends it

SCRIPT = """
import sys
from ditfuse_jax import cli
cli.keep_working_memory = lambda: print("kept")
cli.main = lambda: 0
sys.argv[0] = "ditfuse"
cli.command()
"""


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
def test_only_training_benchmarks_and_videos_keep_working_memory(words, keeps):
    command = [sys.executable, "-c", SCRIPT, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept\n" * keeps, "")
