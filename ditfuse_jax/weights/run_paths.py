"""Paths in a run folder, and which checkpoint a path refers to."""

from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import list_folder
from ditfuse_jax.paths import as_path, is_remote, model_path
from ditfuse_jax.weights.best_step import find_best

# Subfolder of a run: each step is a folder in it, named by its number.
CHECKPOINTS = "checkpoints"

# Items of a step: the trainable parameters, of a whole model or of its adapters.
PARAMETERS = "parameters"
LORA = "lora"

# In an object store a step has its name from the start, and this file when it is complete.
COMMITTED = "commit_success.txt"

# After a run folder's name: its best checkpoint instead of its newest.
AT_BEST = "@best"


def is_run(path: Path) -> bool:
    """Returns whether the path is a run folder, `RUN@best` or one of its step folders."""
    path = _without_best(model_path(path))
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
    path = as_path(path)
    if path.parent.name == CHECKPOINTS and is_complete(path):
        return path.parent.parent, int(path.name)
    run = _without_best(path)
    steps = [int(p.name) for p in list_folder(run / CHECKPOINTS) if is_complete(p)]
    if not steps:
        raise UserError(f"no checkpoint in {run}: give a run folder of `ditfuse train`")
    return run, max(steps) if run == path else find_best(run, steps)


def is_complete(step: Path) -> bool:
    """Returns whether a step folder exists and everything was written to it."""
    if not step.name.isdigit():
        return False
    if is_remote(step):
        return (step / COMMITTED).is_file()
    # Orbax writes under a longer name and renames at the end: a plain number is complete.
    return step.is_dir()


def check_storage(run: Path) -> None:
    """Checks that checkpoints can be where a run folder is.

    Raises:
      UserError: they cannot.
    """
    if str(run).startswith("s3://"):
        raise UserError(
            f"{run}: orbax neither writes nor reads checkpoints on s3://: give a gs:// folder, or "
            "mount the bucket (Mountpoint for S3, FSx) and give the local path; to use a run, copy "
            "it first, e.g. with `aws s3 sync`"
        )


def resolve_best(path: Path) -> Path:
    """Replaces `RUN@best` by its step folder, which stays the same when the run continues.

    Other paths are returned as they are.

    Raises:
      UserError: see `find_checkpoint`.
    """
    path = as_path(path)
    if _without_best(path) == path:
        return path
    run, step = find_checkpoint(path)
    return run / CHECKPOINTS / str(step)


def _without_best(path: Path) -> Path:
    """Returns `RUN` for `RUN@best`, unless a folder has exactly that name."""
    named = path.name.endswith(AT_BEST) and not path.exists()
    return path.with_name(path.name.removesuffix(AT_BEST)) if named else path
