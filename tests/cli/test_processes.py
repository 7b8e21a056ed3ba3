"""Which commands run as several connected processes."""

import os
import socket
import subprocess
import sys

import pytest

from ditfuse_jax.cli import main


def test_only_a_training_connects_to_the_other_processes(monkeypatch, tmp_path, capsys):
    # A command that tries to connect reports that the address alone is incomplete.
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "--config", "nano_m3", "--workdir", str(tmp_path / "run")]) == 2
    assert "JAX_NUM_PROCESSES" in capsys.readouterr().err
    assert main(["prepare", "--verify", str(tmp_path / "nothing")]) == 2
    message = capsys.readouterr().err
    assert "JAX_NUM_PROCESSES" not in message
    assert "nothing" in message


USES_JAX = "import jax.numpy as jnp\nTABLE = jnp.arange(3)\n"

# Prints, after the command, whether this process joined a group and on which platforms JAX looks.
RUN = """
import sys
from ditfuse_jax.cli import main
assert main(sys.argv[1:]) == 2
import jax
print(jax.distributed.is_initialized(), jax.config.jax_platforms)
"""


@pytest.fixture
def run_with_extension(tmp_path):
    """Runs a command that ends with exit code 2 after an extension that uses JAX was imported."""
    (tmp_path / "uses_jax.py").write_text(USES_JAX)

    def run(*command: str, **variables: str) -> list[str]:
        environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"} | variables
        done = subprocess.run(
            [sys.executable, "-c", RUN, *command, "--import", "uses_jax.py"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.mark.processes
def test_a_training_connects_before_an_extension_uses_jax(run_with_extension):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    group = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_PLATFORMS": "cpu"}
    group |= {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    joined, _ = run_with_extension("train", "--config", "missing", "--workdir", "run", **group)
    assert joined == "True"


@pytest.mark.processes
def test_compiling_opens_no_device_for_an_extension(run_with_extension):
    _, platforms = run_with_extension("compile", "--preset", "nano", "--topology", "nonsense")
    assert platforms == "cpu"
