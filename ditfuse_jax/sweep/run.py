"""`ditfuse sweep`: runs the trials that are not done and writes the report."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import check_folder
from ditfuse_jax.paths import as_path
from ditfuse_jax.sweep.cluster import submit
from ditfuse_jax.sweep.definition import Sweep, load_sweep
from ditfuse_jax.sweep.local import DITFUSE, SweepResult, run_plan
from ditfuse_jax.sweep.plan import SweepPlan, make_plan
from ditfuse_jax.sweep.report import write_report
from ditfuse_jax.sweep.table import make_table, to_text


def sweep(
    file: str | Sweep,
    workdir: Path | str,
    overrides: Sequence[str] = (),
    *,
    recipe: str = "",
    imports: Sequence[str] = (),
    workers: int = 1,
    dry_run: bool = False,
    quiet: bool = False,
) -> SweepResult:
    """Runs the trials of a sweep that are not done, and writes its table and plots.

    Args:
      file: name or file of a sweep, see `load_sweep`; or a `Sweep`.
      workdir: folder of the trainings and the report; an unfinished sweep is continued.
      overrides: for all settings; ignored with a `Sweep`.
      recipe: replaces the sweep's own; ignored with a `Sweep`.
      imports: extensions beside the sweep's own; ignored with a `Sweep`.
      workers: trainings at a time; 0 only writes the report.
      dry_run: print the commands instead.
      quiet: no console output.

    Raises:
      UserError: the sweep or a folder is invalid; raised before anything is started.
    """
    if workers < 0:
        raise UserError(f"the number of trainings at a time must be at least 0, not {workers}")
    plan = _plan(file, workdir, overrides, recipe, imports)
    outdated = sum(trial.is_outdated() for trial in plan.trials)
    if outdated and not quiet:
        then = "computed again" if workers else "left out: run without -n 0 to compute them again"
        print(
            f"{plan.sweep.checkpoint} has changed since it was scored, or version 0.1 scored it: "
            f"{outdated} of {len(plan.trials)} scores are {then}",
            file=sys.stderr,
        )
    if dry_run:
        for command in _commands(plan):
            print(command)
        return SweepResult([], False)
    check_folder(plan.folder)
    outcome = run_plan(plan, workers, quiet=quiet) if workers else SweepResult([], False)
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
    imports: Sequence[str] = (),
    target: str,
    description: Path,
    dry_run: bool = False,
) -> int:
    """Submits the trainings that are not done to a cluster.

    Args:
      file, workdir, overrides, recipe, imports: see `sweep`; all machines see `workdir` and the
        files of extensions under the same path.
      target: slurm or jobset.
      description: a job description for `python -m launch`; its `config`, `workdir` and
        `overrides` are replaced.
      dry_run: show what would be submitted.

    Returns:
      The exit code of sbatch or kubectl.

    Raises:
      UserError: see `sweep`; or the description is wrong.
    """
    plan = _plan(file, workdir, overrides, recipe, imports)
    return submit(plan, target, description, dry_run)


def _plan(
    file: str | Sweep,
    workdir: Path | str,
    overrides: Sequence[str],
    recipe: str,
    imports: Sequence[str],
) -> SweepPlan:
    made = file if isinstance(file, Sweep) else load_sweep(file, recipe, overrides, imports)
    return make_plan(made, as_path(workdir))


def _commands(plan: SweepPlan) -> list[str]:
    """Returns the commands of what is not done, as lines of a shell."""
    commands = [training.command for training in plan.trainings if not training.finished()]
    commands += [t.evaluation for t in plan.trials if t.evaluation and t.scores() is None]
    return [shlex.join([*DITFUSE, *arguments]) for arguments in commands]
