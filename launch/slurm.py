"""SLURM: an sbatch script that saves before its time is up and goes back into the queue."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from launch.commands import Command
from launch.errors import LaunchError
from launch.hardware import GPUS_PER_NODE, Gpu, Tpu
from launch.job_spec import JobSpec

TEMPLATES = Path(__file__).parent / "templates"


def script(job: JobSpec) -> str:
    """Returns the sbatch script.

    Raises:
      LaunchError: the description lacks something, or names TPUs.
    """
    return _render(job, [])


def array_script(jobs: Sequence[JobSpec]) -> str:
    """Returns the sbatch script of an array: a task for each job.

    Args:
      jobs: at least one; they differ only in `config`, `workdir` and `overrides`.

    Raises:
      LaunchError: see `script`.
    """
    return _render(jobs[0], [shlex.join(job.arguments) for job in jobs])


def _render(job: JobSpec, tasks: Sequence[str]) -> str:
    """The script of a job, or with `tasks` of an array whose trainings have these arguments."""
    job.require("slurm", "repo")
    if isinstance(job.hardware, Tpu):
        raise LaunchError("slurm starts Gpu and Cpu nodes; TPUs are for jobset and tpu_vm")
    gpus = GPUS_PER_NODE if isinstance(job.hardware, Gpu) else 0
    if job.slurm.process_per_gpu and not gpus:
        raise LaunchError("slurm.process_per_gpu needs GPUs: these nodes have none")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = shlex.quote
    python = f"{job.repo}/.venv/bin/python"
    return environment.get_template("slurm.sh.j2").render(
        job=job,
        nodes=job.hardware.nodes,
        gpus=gpus,
        processes=gpus if job.slurm.process_per_gpu else 1,
        command=shlex.join([python, "-m", "ditfuse_jax", *([] if tasks else job.arguments)]),
        tasks=tasks,
    )


def run(job: JobSpec) -> list[Command]:
    """Submits."""
    return [Command(("sbatch",), script(job))]


def status(job: JobSpec) -> list[Command]:
    """Shows the job in the queue."""
    return [Command(("squeue", "--me", f"--name={job.name}"))]


def stop(job: JobSpec) -> list[Command]:
    """Cancels it; what SLURM's KillWait allows is the time to save."""
    return [Command(("scancel", "--me", f"--name={job.name}"))]


ACTIONS = {"run": run, "status": status, "stop": stop}
