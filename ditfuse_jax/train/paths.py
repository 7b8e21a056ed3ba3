"""Where a run's checkpoints lie, and which of them a path means."""

from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.best import find_best

# Of a run: its steps' folders are in it, named by their numbers.
FOLDER = "checkpoints"

# Items of a step: what trained, the whole model or adapters.
PARAMETERS = "parameters"
LORA = "lora"

# After a run folder's name: its best checkpoint instead of its newest.
AT_BEST = "@best"


def is_run(path: Path) -> bool:
    """Whether the path is a run folder, `RUN@best` or one of its step folders."""
    path = _without_best(Path(path).expanduser())
    return (path / FOLDER).is_dir() or path.parent.name == FOLDER


def holds_adapter(path: Path) -> bool:
    """Whether the run or step folder holds an adapter instead of a whole model."""
    run, step = find_checkpoint(path)
    return (run / FOLDER / str(step) / LORA).is_dir()


def find_checkpoint(path: Path) -> tuple[Path, int]:
    """Finds what `--checkpoint` means.

    Args:
      path: a run folder (its newest step), `RUN@best` (the best by `train.keep_best`) or one of
        its step folders.

    Returns:
      The run folder and the step.

    Raises:
      UserError: there is no checkpoint.
    """
    path = Path(path).expanduser()
    if path.parent.name == FOLDER and path.name.isdigit() and path.is_dir():
        return path.parent.parent, int(path.name)
    run = _without_best(path)
    folder = run / FOLDER
    # Orbax writes under a longer name and renames at the end: a plain number is complete.
    steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise UserError(f"no checkpoint in {run}: give a run folder of `ditfuse train`")
    return run, max(steps) if run == path else find_best(run, steps)


def pinned(path: Path) -> Path:
    """A path that means the same when the run goes on: of `RUN@best`, the step folder.

    Raises:
      UserError: see `find_checkpoint`.
    """
    path = Path(path).expanduser()
    if _without_best(path) == path:
        return path
    run, step = find_checkpoint(path)
    return run / FOLDER / str(step)


def _without_best(path: Path) -> Path:
    """`RUN` of `RUN@best`, unless a folder has that very name."""
    named = path.name.endswith(AT_BEST) and not path.exists()
    return path.with_name(path.name.removesuffix(AT_BEST)) if named else path
