"""Detection of other processes from environment variables."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import processes
from ditfuse_jax.parallel.processes import (
    ProcessGroup,
    detect_processes,
    first_host,
    initialize,
    is_main_process,
)

# Variables that srun sets for the third of four tasks on two nodes.
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_without_variables_there_is_a_single_process(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    initialize()
    assert is_main_process()
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    "incomplete",
    [
        {"JAX_NUM_PROCESSES": "2"},
        {"JAX_PROCESS_ID": "0"},
        {"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
        {"JAX_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": ""},
    ],
)
def test_incomplete_variables_are_refused_by_name(incomplete):
    with pytest.raises(UserError, match=r"JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        detect_processes({"JAX_COORDINATOR_ADDRESS": "localhost:1", **incomplete})


def test_an_index_beyond_the_number_of_processes_is_refused():
    variables = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2"}
    with pytest.raises(UserError, match=r"JAX_PROCESS_ID must be in 0\.\.1 .* not 2"):
        detect_processes(variables | {"JAX_PROCESS_ID": "2"})
    with pytest.raises(UserError, match=r"JOB_COMPLETION_INDEX must be in 0\.\.1 .* not 3"):
        detect_processes(variables | {"JOB_COMPLETION_INDEX": "3"})


def test_a_pod_of_an_indexed_job_uses_its_completion_index():
    pod = {
        "JAX_COORDINATOR_ADDRESS": "run-node-0-0.run:1234",
        "JAX_NUM_PROCESSES": "3",
        "JOB_COMPLETION_INDEX": "2",
    }
    assert detect_processes(pod) == ProcessGroup("run-node-0-0.run:1234", 3, 2)
    # JAX_PROCESS_ID has priority.
    assert detect_processes(pod | {"JAX_PROCESS_ID": "1"}) == ProcessGroup(
        "run-node-0-0.run:1234", 3, 1
    )


def test_jax_s_variables_have_priority_over_slurm():
    by_hand = {
        "JAX_COORDINATOR_ADDRESS": "here:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    assert detect_processes(SRUN | by_hand) == ProcessGroup("here:1", 2, 1)


def test_all_tasks_of_a_step_agree_on_the_coordinator_and_other_steps_do_not():
    tasks = [detect_processes(SRUN | {"SLURM_PROCID": str(i)}) for i in range(4)]
    assert [task.process_id for task in tasks if task] == [0, 1, 2, 3]
    (coordinator,) = {task.coordinator_address for task in tasks if task}
    host, port = coordinator.split(":")
    assert host == "gpu07"
    assert 61440 <= int(port) < 65536
    others = [SRUN | {"SLURM_STEP_ID": "1"}, SRUN | {"SLURM_JOB_ID": "4712"}]
    assert coordinator not in {
        other.coordinator_address for other in map(detect_processes, others) if other
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_STEP_NUM_TASKS": "1"},  # an interactive shell inside a larger allocation
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_step_of_one_task_is_alone(variables):
    assert detect_processes(SRUN | variables) is None


def test_a_batch_script_outside_a_step_is_alone():
    batch = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert detect_processes(batch) is None


def test_missing_variables_of_srun_are_told_with_the_way_out():
    half = {k: v for k, v in SRUN.items() if k != "SLURM_PROCID"}
    with pytest.raises(UserError, match=r"'SLURM_PROCID'.*srun"):
        detect_processes(half)


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        # One process per node has all its GPUs; JAX's own detection would take one.
        ({"SLURM_STEP_NUM_TASKS": "2", "CUDA_VISIBLE_DEVICES": "0,1"}, None),
        # One per GPU: each sees all and takes its own.
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1"}, (1,)),
        ({"SLURM_LOCALID": "1"}, (1,)),
        # SLURM has assigned the GPUs already: all visible ones belong to the task.
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "1"}, None),
        ({"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_GPUS_PER_TASK": "2"}, None),
    ],
)
def test_a_task_uses_its_own_gpus(variables, devices):
    group = detect_processes(SRUN | variables)
    assert group is not None
    assert group.local_device_ids == devices


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-09,12],big1", "gpu07"),
        ("gpu[3,5]", "gpu3"),
        ("a[1-2]b[3-4]-ib,c", "a1b3-ib"),
        ("rack-1-node[01-64]", "rack-1-node01"),
    ],
)
def test_first_host_parses_slurm_s_compressed_lists(nodes, first):
    assert first_host(nodes) == first


# Simulates TPUs: JAX reads the machine's metadata from METADATA.
JOIN_AS_ON_TPUS = """
import json, os, sys, types
import jax
from ditfuse_jax.parallel import processes

def get(url, **rest):
    text = json.loads(os.environ["METADATA"]).get(url.rsplit("/", 1)[1], "")
    return types.SimpleNamespace(status_code=200, text=text)

sys.modules["requests"] = types.SimpleNamespace(get=get)
if "TPU_WORKER_ID" not in os.environ:
    del os.environ["TPU_SKIP_MDS_QUERY"]  # set by JAX without chips, and on GKE
processes.find_spec = lambda name: name
processes.initialize()
jax.config.update("jax_platforms", "cpu")
print(jax.process_index(), jax.process_count(), len(jax.devices()))
"""


def gke_host(index: int) -> dict[str, str]:
    return {
        "METADATA": "{}",
        "TPU_WORKER_ID": str(index),
        "TPU_WORKER_HOSTNAMES": "localhost,other",
    }


def gke_slice(index: int) -> dict[str, str]:
    return {
        "METADATA": "{}",
        "TPU_WORKER_ID": "0",
        "TPU_WORKER_HOSTNAMES": f"slice-{index}",
        "MEGASCALE_COORDINATOR_ADDRESS": "localhost:8080",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": str(index),
    }


def vm_slice(index: int) -> dict[str, str]:
    known = {
        "agent-worker-number": "0",
        "worker-network-endpoints": f"unknown:unknown:10.0.0.{index}",
        "tpu-env": "MEGASCALE_COORDINATOR_ADDRESS: 'localhost:8080'\n"
        f"MEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '{index}'",
    }
    return {"METADATA": json.dumps(known)}


@pytest.mark.processes
@pytest.mark.parametrize("place", [gke_host, gke_slice, vm_slice])
def test_hosts_and_slices_of_tpus_connect_by_google_s_metadata(place):
    foreign = ("SLURM_", "TPU_", "MEGASCALE_", "JAX_PLATFORMS", "JAX_COORDINATOR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    clean |= {"JAX_COORDINATOR_PORT": port, "JAX_NUM_CPU_DEVICES": "1", "JAX_FORCE_TPU_INIT": "1"}
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN_AS_ON_TPUS],
            cwd=Path(__file__).parents[2],
            env=clean | place(index),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        printed = []
        for process in pair:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err[-3000:]
            printed.append(out.split())
    finally:
        for process in pair:
            process.kill()
    assert printed == [["0", "2", "2"], ["1", "2", "2"]]


def test_a_program_on_the_cpu_does_not_wait_for_tpu_hosts(monkeypatch):
    monkeypatch.setattr(processes, "find_spec", lambda name: name)
    monkeypatch.setattr(jax.distributed, "initialize", lambda: pytest.fail("it would wait"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    initialize()


def test_libtpu_without_tpus_is_not_an_error(monkeypatch):
    monkeypatch.setattr(processes, "find_spec", lambda name: name)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    initialize()
    assert not jax.distributed.is_initialized()
