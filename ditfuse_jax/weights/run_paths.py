"""Paths in a run folder, and which checkpoint a path refers to."""

from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.weights.best_step import find_best

# Subfolder of a run: each step is a folder in it, named by its number.
CHECKPOINTS = "checkpoints"

# Items of a step: the trainable parameters, of a whole model or of its adapters.
PARAMETERS = "parameters"
LORA = "lora"

# After a run folder's name: its best checkpoint instead of its newest.
AT_BEST = "@best"


def is_run(path: Path) -> bool:
    """Returns whether the path is a run folder, `RUN@best` or one of its step folders."""
    path = _without_best(Path(path).expanduser())
    return (path / CHECKPOINTS).is_dir() or path.parent.name == CHECKPOINTS


def find_checkpoint(path: Path) -> tuple[Path, int]:
    """Finds the checkpoint that a path refers to.

    Args:
      path: a run folder (its newest step), `RUN@best` (the best by `train.keep_best`) or one of
        its step folders.

    Returns:
      The run folder and the step.

    Raises:
      UserError: there is no checkpoint.
    """
    path = Path(path).expanduser()
    if path.parent.name == CHECKPOINTS and path.name.isdigit() and path.is_dir():
        return path.parent.parent, int(path.name)
    run = _without_best(path)
    folder = run / CHECKPOINTS
    # Orbax writes under a longer name and renames at the end: a plain number is complete.
    steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise UserError(f"no checkpoint in {run}: give a run folder of `ditfuse train`")
    return run, max(steps) if run == path else find_best(run, steps)


def resolve_best(path: Path) -> Path:
    """Replaces `RUN@best` by its step folder, which stays the same when the run continues.

    Other paths are returned as they are.

    Raises:
      UserError: see `find_checkpoint`.
    """
    path = Path(path).expanduser()
    if _without_best(path) == path:
        return path
    run, step = find_checkpoint(path)
    return run / CHECKPOINTS / str(step)


def _without_best(path: Path) -> Path:
    """Returns `RUN` for `RUN@best`, unless a folder has exactly that name."""
    named = path.name.endswith(AT_BEST) and not path.exists()
    return path.with_name(path.name.removesuffix(AT_BEST)) if named else path
