"""Submits the trainings of a sweep to a cluster, as a SLURM array or as one JobSet each.

The launchers are in `launch/` of a checkout, outside the package; a job description in their format
names the machines.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ditfuse_jax.errors import UserError
from ditfuse_jax.resources import resource
from ditfuse_jax.sweep.plan import SweepPlan

if TYPE_CHECKING:
    from launch import JobSpec
    from launch.commands import Command

TARGETS = ("slurm", "jobset")


def submit(plan: SweepPlan, target: str, description: Path, dry_run: bool) -> int:
    """Submits the trainings that are not done, or shows what would be submitted.

    Returns:
      The exit code of sbatch or kubectl.

    Raises:
      UserError: there is nothing to train, the description is wrong, or a program is missing.
    """
    _find_launchers()
    from launch import LaunchError, commands

    try:
        planned = render(plan, target, description)
        if dry_run:
            commands.show(planned)
            return 0
        return commands.run(planned)
    except LaunchError as error:
        raise UserError(str(error)) from error


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
    named = [dataclasses.replace(job, name=f"{job.name}-{number}") for number, job in jobs.items()]
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


def _find_launchers() -> None:
    try:
        root = resource("launch").parent
    except UserError as error:
        raise UserError(
            "the launchers are not installed with the package: start the sweep from a checkout of "
            "ditfuse_jax"
        ) from error
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
