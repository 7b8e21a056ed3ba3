"""A command whose output nobody reads any more ends like any program in a pipe."""

import signal
import subprocess
import sys

import pytest

SCRIPT = "from ditfuse_jax.cli import command; command()"


@pytest.mark.processes
@pytest.mark.medium
def test_a_command_ends_quietly_when_its_reader_has_seen_enough(tmp_path):
    """As `ditfuse sweep ... --dry-run | head -1`: no traceback, the exit code of SIGPIPE."""
    words = ["sweep", "block_size", "--workdir", str(tmp_path), "--dry-run"]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=120) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
