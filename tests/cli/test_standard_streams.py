"""Standard streams that are full or closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "from ditfuse_jax.cli import command; command()"
FULL = Path("/dev/full")  # of Linux: no write to it succeeds

pytestmark = pytest.mark.processes
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


def run(words, redirected="", unbuffered="", **kwargs):
    """Runs a command as a shell does, with a redirection such as `>&-`."""
    shell = f'exec "$0" "$@" {redirected}'
    words = ["sh", "-c", shell, sys.executable, "-c", SCRIPT, *map(str, words)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(words, env=environment, capture_output=True, text=True, **kwargs)


@needs_full
@pytest.mark.medium
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["runs", "--help"])
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path, command, unbuffered):
    words = [command, tmp_path] if command == "runs" else [command]
    done = run(words, ">/dev/full", unbuffered)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "error: standard output: cannot be written (No space left on device); free" in line


@needs_full
@pytest.mark.medium
def test_messages_that_cannot_be_shown_do_not_end_the_work(tmp_path):
    done = run(["runs", tmp_path], "2>/dev/full")
    assert (done.returncode, done.stdout) == (0, f"no run folders in {tmp_path}\n")
    assert run(["runs", tmp_path / "none"], "2>/dev/full").returncode == 2


@pytest.mark.medium
def test_a_command_whose_streams_are_closed_works(tmp_path):
    done = run(["runs", tmp_path], ">&- <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run(["runs", tmp_path / "none"], ">&- 2>&- <&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_what_a_closed_stream_would_get_lands_in_no_file_that_is_opened_later(tmp_path):
    script = (
        "import os; from ditfuse_jax.cli.standard_streams import prepare_streams\n"
        f"prepare_streams(); file = open({str(tmp_path / 'x')!r}, 'w')\n"
        "os.write(1, b'from a library'); assert file.fileno() > 2"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, sys.executable, script]).returncode == 0
    assert (tmp_path / "x").read_text() == ""
