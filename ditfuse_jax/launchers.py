"""Submits jobs with the launchers of a checkout, which are outside the package in `launch/`."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ditfuse_jax.errors import UserError
from ditfuse_jax.resources import resource

if TYPE_CHECKING:
    from launch.commands import Command

TARGETS = ("slurm", "jobset")


def submit(plan: "Callable[[], list[Command]]", dry_run: bool) -> int:
    """Runs the commands that submit a job, or shows them.

    Args:
      plan: returns the commands; it may import `launch`.
      dry_run: only show them.

    Returns:
      The exit code of sbatch or kubectl.

    Raises:
      UserError: the launchers are missing, the job's description is wrong, or a program is missing.
    """
    _find()
    from launch import LaunchError, commands

    try:
        planned = plan()
        if dry_run:
            commands.show(planned)
            return 0
        return commands.run(planned)
    except LaunchError as error:
        raise UserError(str(error)) from error


def _find() -> None:
    try:
        root = resource("launch").parent
    except UserError as error:
        raise UserError(
            "the launchers are not installed with the package: submit from a checkout of "
            "ditfuse_jax"
        ) from error
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
