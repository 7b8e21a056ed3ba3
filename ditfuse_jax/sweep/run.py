"""`ditfuse sweep`: what is not done yet is done, then all of it is told."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder
from ditfuse_jax.sweep.cluster import submit
from ditfuse_jax.sweep.definition import Sweep, load_sweep
from ditfuse_jax.sweep.local import DITFUSE, Outcome, run_plan
from ditfuse_jax.sweep.plan import Plan, make_plan
from ditfuse_jax.sweep.report import write_report
from ditfuse_jax.sweep.table import make_table, to_text


def sweep(
    file: str | Sweep,
    workdir: Path | str,
    overrides: Sequence[str] = (),
    *,
    recipe: str = "",
    workers: int = 1,
    dry_run: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Does the runs of a sweep that are not done yet, and writes its table and pictures.

    Args:
      file: a sweep's name or file, see `load_sweep`; or a `Sweep`.
      workdir: where the runs and the report go; an unfinished sweep is continued.
      overrides: words for all settings; only with a file.
      recipe: used instead of the file's; only with a file.
      workers: trainings at a time; 0 does nothing and writes the report of what is there.
      dry_run: prints the commands instead.
      quiet: no console output.

    Raises:
      UserError: bad sweep or folder; told before anything is started.
    """
    if workers < 0:
        raise UserError(f"the number of runs at a time must be at least 0, not {workers}")
    plan = _plan(file, workdir, overrides, recipe)
    if dry_run:
        for command in _commands(plan):
            print(command)
        return Outcome([], False)
    make_folder(plan.folder)
    outcome = run_plan(plan, workers, quiet=quiet) if workers else Outcome([], False)
    table = make_table(plan)
    page = write_report(plan, table, outcome.failures)
    if not quiet:
        print(to_text(table))
        for failure in outcome.failures:
            print(f"failed: {failure}")
        if outcome.stopped:
            print("stopped by a signal: run the same command to continue")
        print(f"report: {page}")
    return outcome


def submit_sweep(
    file: str | Sweep,
    workdir: Path | str,
    overrides: Sequence[str] = (),
    *,
    recipe: str = "",
    target: str,
    description: Path,
    dry_run: bool = False,
) -> int:
    """Hands the trainings that are not done yet to a cluster.

    Args:
      file, workdir, overrides, recipe: see `sweep`; the machines share `workdir` under this path.
      target: slurm or jobset.
      description: of a job, as `python -m launch` takes it; what it trains (`config`, `workdir`,
        `overrides`) is replaced.
      dry_run: shows what would be submitted.

    Returns:
      The exit code of the cluster's own command.

    Raises:
      UserError: see `sweep`; or the description is wrong.
    """
    return submit(_plan(file, workdir, overrides, recipe), target, description, dry_run)


def _plan(file: str | Sweep, workdir: Path | str, overrides: Sequence[str], recipe: str) -> Plan:
    made = file if isinstance(file, Sweep) else load_sweep(file, recipe, overrides)
    return make_plan(made, Path(workdir))


def _commands(plan: Plan) -> list[str]:
    """The commands of what is not done yet, as lines of a shell."""
    words = [training.command for training in plan.trainings if not training.finished()]
    words += [run.scoring for run in plan.runs if run.scoring and run.scores() is None]
    return [shlex.join([*DITFUSE, *some]) for some in words]
