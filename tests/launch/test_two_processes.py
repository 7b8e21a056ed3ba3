"""A small training is started by the SLURM script, stopped, and finished by the JobSet's pods."""

import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from launch import Cpu, Kubernetes, jobset, slurm

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
TINY = runpy.run_path(str(ROOT / "tests" / "train" / "conftest.py"))["TINY"]

# srun with two tasks on this machine; SIGTERM goes to both, as with --signal=TERM@...
SRUN = """
import signal
command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
tasks = [
    subprocess.Popen(command, env=os.environ | {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "localhost,node[2-9]",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": "0",
    })
    for index in range(2)
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


def losses(run: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**more: str) -> dict[str, str]:
    foreign = ("SLURM_", "JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return clean | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | more


@pytest.mark.slow
def test_stopped_on_slurm_requeued_and_finished_by_a_jobset(gpu_job, fakes, tmp_path):
    run, repo = tmp_path / "it's a run", tmp_path / "a repo"

    def job(steps: int):
        return gpu_job(
            hardware=Cpu(2),
            config="nano_m3",
            repo=str(repo),
            workdir=str(run),
            kubernetes=Kubernetes(claims={str(tmp_path): "shared"}),
            overrides=(*TINY, f"--config.train.steps={steps}"),
        )

    fakes.add("srun", SRUN)
    fakes.add("scontrol")
    python = repo / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    script = tmp_path / "script.sh"
    script.write_text(slurm.script(job(5000)))
    batch = subprocess.Popen(
        ["/bin/bash", str(script)],
        env=environment(PATH=fakes.path, SLURM_JOB_ID="7", JAX_COORDINATOR_PORT=str(free_port())),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not ((run / "metrics.jsonl").exists() and losses(run)):
            assert batch.poll() is None, batch.communicate()[1][-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (srun,) = Path(f"/proc/{batch.pid}/task/{batch.pid}/children").read_text().split()
        os.kill(int(srun), signal.SIGTERM)
        _, errors = batch.communicate(timeout=240)
    finally:
        if batch.poll() is None:
            os.killpg(batch.pid, signal.SIGKILL)
    assert batch.returncode == 143, errors[-3000:]
    assert fakes.calls("scontrol") == [["requeue", "7"]]
    (saved,) = map(int, checkpoints(run))
    assert errors.count(f"step {saved} of 5000 is saved") == 1  # only one of the two reports it
    assert sorted(losses(run)) == list(range(1, saved + 1))

    (command,) = jobset.run(job(saved + 2))
    (replicated,) = yaml.safe_load(command.document)["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["ditfuse"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    # Without the cluster's service the first pod's name does not resolve.
    variables["JAX_COORDINATOR_ADDRESS"] = f"localhost:{free_port()}"
    pods = [
        subprocess.Popen(
            [sys.executable, "-m", "ditfuse_jax", *container["args"]],
            env=environment(**variables, JOB_COMPLETION_INDEX=str(index)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(replicated["template"]["spec"]["completions"])
    ]
    try:
        for pod in pods:
            _, errors = pod.communicate(timeout=240)
            assert pod.returncode == 0, errors[-3000:]
    finally:
        for pod in pods:
            pod.kill()
    assert len(pods) == 2
    assert sorted(losses(run)) == list(range(1, saved + 3))
    assert str(saved + 2) in checkpoints(run)
