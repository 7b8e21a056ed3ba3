"""Whether a path still leads to the model that it led to before."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.weights.bundle import find_bundle
from ditfuse_jax.weights.hub_files import belongs_to_model
from ditfuse_jax.weights.run_paths import CHECKPOINTS, find_checkpoint, is_run


def model_identity(model: Path | str) -> str:
    """Returns a text that becomes another one when other weights are stored under a path.

    No parameter is read.  It is the commit of an address on the Hub; otherwise the step, if there
    are any, with a digest of the names, sizes and times of the model's files.  A copy of a model
    may have another identity.

    Args:
      model: see `weights.open_checkpoint`.

    Returns:
      The text; "" if there is no such file or folder.

    Raises:
      UserError: a run has no checkpoint, or the Hub does not answer.
    """
    if hub.is_address(model):
        return hub.pinned(model)
    path, step = find_bundle(model), ""
    if is_run(path):
        run, number = find_checkpoint(path)
        path, step = run / CHECKPOINTS / str(number), f"step {number}, "
    hashed = hashlib.sha256()
    found = 0
    for file in _files(path, is_step=bool(step)):
        facts, name = file.stat(), file.relative_to(path).as_posix()
        hashed.update(f"{name} {facts.st_size} {facts.st_mtime}\n".encode())
        found += 1
    return f"{step}{hashed.hexdigest()[:16]}" if found else ""


def _files(path: Path, is_step: bool) -> Iterator[Path]:
    """Yields the files of a model in a fixed order, without others in its folder."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        name = file.relative_to(path).as_posix()
        if (is_step or belongs_to_model(name)) and file.is_file():
            yield file
