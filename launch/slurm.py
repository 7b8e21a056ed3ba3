"""SLURM: an sbatch script that saves before its time limit and requeues itself.

The training runs from a checkout (`repo`), or without one in a container (`image`) by the plugin
pyxis.
"""

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
    """Returns the sbatch script; that of an array if the job has tasks.

    Raises:
      LaunchError: a required field is empty, or the hardware is a TPU.
    """
    return _render(job, [])


def array_script(jobs: Sequence[JobSpec]) -> str:
    """Returns the sbatch script of an array with one task per job.

    Args:
      jobs: at least one; they differ only in their arguments of `ditfuse`.

    Raises:
      LaunchError: see `script`.
    """
    return _render(jobs[0], [shlex.join(job.arguments) for job in jobs])


def _render(job: JobSpec, tasks: Sequence[str]) -> str:
    """Renders the script of a job, or of an array if `tasks` holds the arguments of each task."""
    if not job.repo and not job.image:
        raise LaunchError("slurm needs repo, or image for a container, in the description")
    if not job.repo:
        job.require_reachable_workdir("slurm.mounts")
    if isinstance(job.hardware, Tpu):
        raise LaunchError("slurm starts Gpu and Cpu nodes; TPUs are for jobset and tpu_vm")
    gpus = GPUS_PER_NODE if isinstance(job.hardware, Gpu) else 0
    if job.slurm.process_per_gpu and not gpus:
        raise LaunchError("slurm.process_per_gpu needs GPUs, but the hardware is Cpu")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = shlex.quote
    program = [f"{job.repo}/.venv/bin/python", "-m", "ditfuse_jax"] if job.repo else ["ditfuse"]
    return environment.get_template("slurm.sh.j2").render(
        job=job,
        nodes=1 if job.tasks else job.hardware.nodes,
        gpus=gpus,
        processes=gpus if job.slurm.process_per_gpu and not job.tasks else 1,
        container=shlex.join(_container(job)),
        command=shlex.join([*program, *([] if tasks else job.arguments)]),
        staging=shlex.quote(" && ".join(job.staging)) if job.staged else "",
        tasks=tasks,
        array=len(tasks) or job.tasks,
    )


def _container(job: JobSpec) -> list[str]:
    """Returns srun's options of the container (github.com/NVIDIA/pyxis); none for a checkout."""
    if job.repo:
        return []
    name = job.image
    registry, _, image = name.partition("/")
    if "#" not in name and ":" not in registry and "." in registry.removeprefix("."):
        name = f"{registry}#{image}"  # as enroot writes a registry; a path stays a path
    mounts = {**{folder: folder for folder in job.staged}, **job.slurm.mounts}
    mounted = ",".join(f"{outside}:{inside}" for inside, outside in mounts.items())
    return [
        f"--container-image={name}",
        "--no-container-mount-home",
        *([f"--container-mounts={mounted}"] if mounted else []),
    ]


def run(job: JobSpec) -> list[Command]:
    """Submits the job."""
    return [Command(("sbatch",), script(job))]


def status(job: JobSpec) -> list[Command]:
    """Shows the job in the queue."""
    return [Command(("squeue", "--me", f"--name={job.name}"))]


def profile(job: JobSpec) -> list[Command]:
    """Makes the training write a profile of its next steps into the run folder."""
    job.require_training("profile")
    return [Command(("scancel", "--me", f"--name={job.name}", "--signal=USR1"))]


def stop(job: JobSpec) -> list[Command]:
    """Cancels the job; it has SLURM's KillWait to save."""
    return [Command(("scancel", "--me", f"--name={job.name}"))]


ACTIONS = {"run": run, "status": status, "profile": profile, "stop": stop}
