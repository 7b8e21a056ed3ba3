"""Submits the trainings of a sweep to a cluster, as a SLURM array or as one JobSet each.

A job description of `launch/` names the machines.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ditfuse_jax import launchers
from ditfuse_jax.errors import UserError
from ditfuse_jax.sweep.plan import SweepPlan

if TYPE_CHECKING:
    from launch import JobSpec
    from launch.commands import Command


def submit(plan: SweepPlan, target: str, description: Path, dry_run: bool) -> int:
    """Submits the trainings that are not done, or shows what would be submitted.

    Returns:
      The exit code of sbatch or kubectl.

    Raises:
      UserError: there is nothing to train, the description is wrong, or a program is missing.
    """
    return launchers.submit(lambda: render(plan, target, description), dry_run)


def render(plan: SweepPlan, target: str, description: Path) -> "list[Command]":
    """Returns the commands that submit the trainings.

    Raises:
      LaunchError: the description is wrong.
      UserError: there is nothing to train.
    """
    from launch import jobset, slurm
    from launch.commands import Command

    jobs = _jobs(plan, description)
    if target == "slurm":
        return [Command(("sbatch",), slurm.array_script(list(jobs.values())))]
    # Sweeps of one description in several folders may run at a time.
    of_sweep = hashlib.sha256(str(plan.folder).encode("utf-8", "surrogateescape")).hexdigest()[:4]
    named = [
        dataclasses.replace(job, name=f"{job.name}-{of_sweep}-{number}")
        for number, job in jobs.items()
    ]
    # One call for all: kubectl reports those that exist already and creates the others.
    calls = [command for job in named for command in jobset.run(job)]
    return [Command(calls[0].argv, "---\n".join(call.document for call in calls))]


def _jobs(plan: SweepPlan, description: Path) -> "dict[int, JobSpec]":
    """Returns a job for each training that is not done, by the training's number in the sweep."""
    from launch.job_spec import load_job_spec

    if not plan.trainings:
        raise UserError("the sweep trains nothing: run it on this machine")
    base = load_job_spec(description)
    jobs = {
        number: dataclasses.replace(
            base,
            config=training.recipe,
            workdir=str(training.folder),
            overrides=training.overrides,
            imports=training.imports,
        )
        for number, training in enumerate(plan.trainings)
        if not training.finished()
    }
    if not jobs:
        raise UserError(
            f"all trainings of {plan.folder} are done: run the sweep without --slurm or --jobset"
        )
    return jobs
