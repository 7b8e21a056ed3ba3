"""Initialisation of JAX for several processes, from environment variables.

Supported, in this order:

* `JAX_COORDINATOR_ADDRESS` and `JAX_NUM_PROCESSES` with `JAX_PROCESS_ID`, set by hand, or with
  `JOB_COMPLETION_INDEX`, which Kubernetes sets in the pods of an Indexed Job;
* `srun`: the `SLURM_STEP_*` variables of a step with several tasks;
* TPU virtual machines and GKE's TPU pods: JAX detects them;
* otherwise a single process.
"""

import dataclasses
import os
import re
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import NoReturn

import jax

from ditfuse_jax import compat
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.heartbeat import EXIT_LOST
from ditfuse_jax.process_exit import exit_now

# Seconds until all processes must have connected.
INITIALIZATION_TIMEOUT = 300


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """Arguments of `jax.distributed.initialize`.

    Attributes:
      coordinator_address: `host:port` of process 0, the same in all processes.
      num_processes: number of processes.
      process_id: index of this process.
      local_device_ids: the visible GPUs that this process uses; None for all.
    """

    coordinator_address: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None


def detect_processes(environment: Mapping[str, str]) -> ProcessGroup | None:
    """Returns the process group from environment variables, or None for a single process.

    Raises:
      UserError: the variables are incomplete or not numbers.
    """
    if "JAX_COORDINATOR_ADDRESS" in environment:
        return _from_variables(environment)
    # Only srun sets it; a batch script or a shell inside an allocation is a single process.
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _from_slurm(environment)
    return None


def initialize() -> None:
    """Connects to the other processes, if there are any; see the module's docstring.

    Must be called before any other use of JAX; further calls do nothing.  If not all processes have
    joined within `INITIALIZATION_TIMEOUT`, this process prints a message and ends with `EXIT_LOST`.

    Raises:
      UserError: the environment variables are incomplete.
    """
    if jax.distributed.is_initialized():
        return
    group = detect_processes(os.environ)
    if group:
        # JAX would abort the process without a message of ours, so it is given more time.
        timer = threading.Timer(INITIALIZATION_TIMEOUT, _end_unjoined, (group,))
        timer.daemon = True
        timer.start()
        try:
            jax.distributed.initialize(
                group.coordinator_address,
                group.num_processes,
                group.process_id,
                group.local_device_ids,
                # Under SLURM, JAX's own detection would leave each process a single GPU.
                cluster_detection_method="deactivate",
                initialization_timeout=INITIALIZATION_TIMEOUT + 60,
            )
        finally:
            timer.cancel()
    elif _may_have_tpus(os.environ):
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            # These are raised if there are no TPUs, and if JAX is in use already.
            if not re.search("coordinator_address|before any JAX calls", str(error)):
                raise


def _end_unjoined(group: ProcessGroup) -> NoReturn:
    print(
        f"error: process {group.process_id} of {group.num_processes} did not meet the others at "
        f"{group.coordinator_address} within {INITIALIZATION_TIMEOUT} s: were all started, and do "
        "they reach that address?",
        file=sys.stderr,
    )
    exit_now(EXIT_LOST)


def is_main_process() -> bool:
    """Returns whether this is the process that writes logs and images."""
    return jax.process_index() == 0


def from_main_process(name: str, compute: Callable[[], str]) -> str:
    """Returns what the main process computes; the others wait for it.

    Args:
      name: of the value, unique in the program.
      compute: called in the main process only.
    """
    state = compat.distributed_state()
    if state.client is None or state.num_processes == 1:
        return compute()
    key = f"ditfuse/values/{name}"
    if state.process_id == 0:
        state.client.key_value_set(key, compute(), allow_overwrite=True)
    return state.client.blocking_key_value_get(key, INITIALIZATION_TIMEOUT * 1000)


def _from_variables(environment: Mapping[str, str]) -> ProcessGroup:
    id_name = "JAX_PROCESS_ID" if "JAX_PROCESS_ID" in environment else "JOB_COMPLETION_INDEX"
    try:
        count, index = (int(environment[name]) for name in ("JAX_NUM_PROCESSES", id_name))
    except (KeyError, ValueError) as error:
        raise UserError(
            "JAX_COORDINATOR_ADDRESS is set: JAX_NUM_PROCESSES and JAX_PROCESS_ID (or Kubernetes' "
            f"JOB_COMPLETION_INDEX) must be whole numbers ({error})"
        ) from error
    if not 0 <= index < count:
        raise UserError(
            f"{id_name} must be in 0..{count - 1} (JAX_NUM_PROCESSES is {count}), not {index}"
        )
    return ProcessGroup(environment["JAX_COORDINATOR_ADDRESS"], count, index)


def _from_slurm(environment: Mapping[str, str]) -> ProcessGroup:
    try:
        count, index, local, nodes = (
            int(environment[name])
            for name in (
                "SLURM_STEP_NUM_TASKS",
                "SLURM_PROCID",
                "SLURM_LOCALID",
                "SLURM_STEP_NUM_NODES",
            )
        )
        host = first_host(environment["SLURM_STEP_NODELIST"])
        step = f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}"
    except (KeyError, ValueError) as error:
        raise UserError(
            f"SLURM's variables are incomplete ({error}): start the processes with srun, or set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    # All tasks compute the same port, other steps on the node another one.  It is above Linux's
    # range of ephemeral ports (32768 to 60999).
    port = environment.get("JAX_COORDINATOR_PORT") or 61440 + zlib.crc32(step.encode()) % 4096
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    bound = "SLURM_GPUS_PER_TASK" in environment or (visible != [""] and len(visible) == 1)
    shares_node = count > nodes
    return ProcessGroup(
        f"{host}:{port}", count, index, (local,) if shares_node and not bound else None
    )


def first_host(nodes: str) -> str:
    """Returns the first host of SLURM's compressed list: `gpu[07-09,12],big1` -> `gpu07`."""
    first = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", first)


def _may_have_tpus(environment: Mapping[str, str]) -> bool:
    platforms = environment.get("JAX_PLATFORMS") or "tpu"
    return (
        "tpu" in platforms.split(",")
        and find_spec("libtpu") is not None
        and "SLURM_JOB_ID" not in environment  # handled by `detect_processes`
    )
