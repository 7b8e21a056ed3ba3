"""A run so small that training takes seconds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax.train import load_recipe

ROOT = Path(__file__).parents[2]

TINY = (
    "--config.model.hidden_size=32",
    "--config.model.num_layers=1",
    "--config.model.num_heads=4",
    "--config.model.num_kv_heads=4",
    "--config.model.intermediate_size=64",
    "--config.model.vocab_size=1280",
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=8",
    "--config.data.workers=0",
    "--config.optimizer.schedule=constant",
    "--config.optimizer.warmup_steps=2",
    "--config.train.log_every=1",
    "--config.evaluations.held_out.every=0",
    "--config.train.checkpoint_every=0",
    "--config.evaluations.held_out.count=2",
    "--config.sample.steps=1",
)


# `ditfuse` with short timeouts.  On CPUs the key of a compiled program differs from process to
# process and only process 0 writes to the cache: with the same key all have what it compiled.
PROGRAM = """
import jax
from jax._src import cache_key
from ditfuse_jax.cli import command
from ditfuse_jax.parallel import heartbeat, slow_processes

def hash_devices(key, devices):
    key.update(bytes([jax.process_count()]))
    cache_key._hash_devices(key, devices)

cache_key._hash_accelerator_config = hash_devices
heartbeat.LOST_AFTER, heartbeat.NOTICE_AFTER, slow_processes.WINDOW = 10.0, 3.0, 5.0
command()
"""


@pytest.fixture(scope="session")
def tiny():
    """Builds a locked config from the nano recipe with further overrides."""

    def build(*overrides: str):
        return load_recipe("nano_m3", [*TINY, *overrides])

    return build


@pytest.fixture(scope="session")
def overrides():
    """The overrides that make the nano recipe tiny, with further ones."""
    return lambda *more: [*TINY, *more]


@pytest.fixture(scope="session")
def run_code():
    """Runs code in a new process from the root of the repository."""

    def run(code: str, *arguments: str, environment: dict[str, str] | None = None):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def start():
    """Starts `ditfuse train` on the tiny run in a process of its own, or a student of `distil`."""
    processes = []

    def begin(
        folder: Path,
        *overrides: str,
        environment: dict[str, str] | None = None,
        distil: Path | None = None,
    ):
        command = [sys.executable, "-c", PROGRAM]
        if distil is None:
            command += ["train", "--config", "nano_m3", *TINY]
        else:
            command += ["distill", str(distil), "--config", "nano_distill"]
        command += ["--workdir", str(folder), *overrides]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def start_group(start):
    """Starts several processes of one training; `own` returns further overrides of each."""

    def begin(folder: Path, count: int, *overrides: str, own=lambda index: ()):
        if count == 1:
            return [start(folder, *overrides, *own(0))]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
        return [
            start(folder, *overrides, *own(i), environment=shared | {"JAX_PROCESS_ID": str(i)})
            for i in range(count)
        ]

    return begin


def losses(folder: Path) -> dict[int, float]:
    """Returns step -> loss of a run; fails if a step was recorded twice."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "loss" in record:
            assert record["step"] not in found
            found[record["step"]] = record["loss"]
    return found


@pytest.fixture(scope="session", name="losses")
def losses_fixture():
    return losses
