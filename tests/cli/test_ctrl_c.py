"""Ctrl-C ends a command with one line and exit code 130, whatever it is doing."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.medium, pytest.mark.processes]

PRESS = "import os, signal, threading, time\nPRESS = lambda: os.kill(os.getpid(), signal.SIGINT)\n"

WHILE_IMPORTING = PRESS + "PRESS()\ntime.sleep(60)\n"

# The solver is traced at once before XLA compiles it, for seconds.
WHILE_COMPILING = (
    PRESS
    + """
from ditfuse_jax.flow import SOLVERS
@SOLVERS.register("pressed")
def pressed(velocity, x, times):
    if x.size > 100:
        threading.Timer(0.3, PRESS).start()
    for t, t_next in zip(times[:-1], times[1:]):
        x = x + (t_next - t) * velocity(x, t)
    return x
"""
)

# Python drops exceptions in a destructor.
DROPPED = (
    PRESS
    + """
class Pressed:
    def __del__(self):
        PRESS()
        time.sleep(0.1)
Pressed()
time.sleep(60)
"""
)

CAUGHT = (
    PRESS
    + """
try:
    PRESS()
    time.sleep(9)
except BaseException:
    pass
time.sleep(60)
"""
)

TWICE = PRESS + "try:\n    PRESS()\n    time.sleep(9)\nfinally:\n    PRESS()\n    time.sleep(60)\n"


@pytest.fixture
def fuse(pair, checkpoint, tmp_path):
    """Runs `ditfuse fuse` with an extension; returns exit code, lines of errors and the output."""

    def run(extension, *options):
        (tmp_path / "extension.py").write_text(extension)
        output = tmp_path / "fused.png"
        command = [sys.executable, "-m", "ditfuse_jax", "fuse", *map(str, pair), "-o", str(output)]
        command += ["--checkpoint", str(checkpoint), "--import", str(tmp_path / "extension.py")]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
        environment["XLA_FLAGS"] = ""  # compile for as long as a user's process does
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
        )
        return done.returncode, done.stderr.strip().splitlines(), output

    return run


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        (WHILE_IMPORTING, ()),
        (WHILE_COMPILING, ("--solver", "pressed")),
        (DROPPED, ()),
        (CAUGHT, ()),
        (TWICE, ()),
    ],
    ids=["importing", "compiling", "dropped", "caught", "twice"],
)
def test_it_ends_with_one_line_and_writes_nothing(fuse, extension, options):
    code, lines, output = fuse(extension, *options)
    assert (code, lines) == (130, ["ditfuse fuse: interrupted"])
    assert not output.exists()
