"""Submits packing to a cluster, as a SLURM array or an Indexed Job."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditfuse_jax import launchers
from ditfuse_jax.errors import UserError

if TYPE_CHECKING:
    from launch.commands import Command

# Variables with the number of a task, set by SLURM and by Kubernetes.
INDEX_VARIABLES = ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX")


def submit_prepare(
    source: str,
    output: str | Path,
    options: Mapping[str, Any],
    *,
    num_tasks: int,
    target: str,
    description: Path,
    imports: Sequence[str] = (),
    dry_run: bool = False,
) -> int:
    """Submits the tasks that pack a source, or shows what would be submitted.

    Args:
      source: as the tasks' machines see it, like `output`.
      output: the folder of shards.
      options: of `ditfuse prepare`, by name with hyphens; those that are None or False are left
        out.
      num_tasks: number of tasks, each on one node.
      target: "slurm" or "jobset".
      description: a file of `launch/` that names the machines; the work it names is replaced.
      imports: extensions.
      dry_run: only show it.

    Returns:
      The exit code of sbatch or kubectl.

    Raises:
      UserError: the description is wrong, or a program is missing.
    """
    words = ["prepare", source, "--output", str(output)]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words.append(f"--{name}={value}")
    return launchers.submit(lambda: render(words, num_tasks, target, description, imports), dry_run)


def render(
    words: Sequence[str],
    num_tasks: int,
    target: str,
    description: Path,
    imports: Sequence[str] = (),
) -> "list[Command]":
    """Returns the commands that submit `num_tasks` tasks of `ditfuse WORDS`.

    Raises:
      LaunchError: the description is wrong.
    """
    from launch import jobset, slurm
    from launch.job_spec import load_job_spec

    job = dataclasses.replace(
        load_job_spec(description),
        config="",
        workdir="",
        overrides=(),
        command=tuple(words),
        tasks=num_tasks,
        imports=tuple(imports),
    )
    return {"slurm": slurm, "jobset": jobset}[target].run(job)


def task_index(given: int | None, num_tasks: int) -> int:
    """Returns the number of this task: what was given, or what the cluster's variables say.

    Raises:
      UserError: neither says it.
    """
    if given is not None:
        return given
    if num_tasks == 1:
        return 0
    for name in INDEX_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    raise UserError(
        f"--num-tasks {num_tasks} needs --task-index; a SLURM array and an Indexed Job set it "
        f"themselves ({', '.join(INDEX_VARIABLES)})"
    )
