"""`--verbose` shows what is silenced otherwise."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.medium]

# Libraries log, and a command then ends with bad input.
CODE = """
import logging, sys
from absl import logging as absl_logging
from ditfuse_jax import cli
from ditfuse_jax.cli import fuse
from ditfuse_jax.errors import UserError

def run(args):
    import jax
    absl_logging.info("orbax says")
    logging.getLogger("asyncio").error("tensorstore says")
    logging.getLogger("jax").info("jax says")
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise UserError("bad input") from error

fuse.run = run
sys.exit(cli.main(sys.argv[1:]))
"""


def said(*options: str) -> list[str]:
    command = [sys.executable, "-c", CODE, "fuse", "a.png", "b.png", "-o", "c.png", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    return done.stderr.splitlines()


def test_log_messages_and_tracebacks_are_shown_with_verbose_only():
    assert said() == ["ditfuse fuse: error: bad input"]
    lines = said("--verbose")
    assert lines[-1] == "ditfuse fuse: error: bad input"
    text = "\n".join(lines)
    for part in ("orbax says", "tensorstore says", "jax says", "ZeroDivisionError", "Traceback"):
        assert part in text
