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
    kwargs = {"capture_output": True, "text": True, "timeout": 120, **kwargs}
    return subprocess.run(words, env=environment, **kwargs)


def run_script(script, redirected=""):
    """Runs a script after which the streams are prepared, as a shell does."""
    start = "from ditfuse_jax.cli.standard_streams import prepare_streams\n"
    words = ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, start + script]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


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
        f"import os; prepare_streams(); file = open({str(tmp_path / 'x')!r}, 'w')\n"
        "os.write(1, b'from a library'); assert file.fileno() > 2"
    )
    assert run_script(script, "<&- >&- 2>&-").returncode == 0
    assert (tmp_path / "x").read_text() == ""


def test_a_file_that_has_the_number_of_a_closed_stream_is_kept(tmp_path):
    script = (
        f"file = open({str(tmp_path / 'x')!r}, 'w'); assert file.fileno() == 0\n"
        "prepare_streams(); file.write('kept'); file.close()"
    )
    assert run_script(script, "<&-").returncode == 0
    assert (tmp_path / "x").read_text() == "kept"


def test_messages_are_shown_again_when_a_full_disk_has_space_again(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "limit = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "prepare_streams(); print('first', file=sys.stderr)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))\n"
        "print('lost or late', file=sys.stderr)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limit)\n"
        "print('last', file=sys.stderr)\n"
    )
    log = tmp_path / "log"
    assert run_script(script, f"2>{log}").returncode == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "first" and lines[-1] == "last"


def test_handlers_that_hold_the_streams_go_on():
    script = "import logging; logging.basicConfig(); prepare_streams(); logging.warning('text')"
    assert run_script(script).stderr == "WARNING:root:text\n"


@needs_full
def test_ctrl_c_ends_a_command_whose_output_cannot_be_written():
    script = (
        "from ditfuse_jax.cli.ctrl_c import CtrlC\n"
        "prepare_streams(); print('text'); CtrlC('ditfuse train').end()"
    )
    done = run_script(script, ">/dev/full")
    assert (done.returncode, done.stderr) == (130, "ditfuse train: interrupted\n")
