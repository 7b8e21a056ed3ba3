"""Metrics as a run of Weights & Biases."""

import os
import uuid
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.optional import import_optional
from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.background import Background
from ditfuse_jax.train.writers.writer import Writer

# If WANDB_PROJECT does not name one.
_PROJECT = "ditfuse"


class WandbWriter:
    """Logs to a run that all starts of a training share."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any]):
        """Starts or resumes the run; the variables `WANDB_*` apply."""
        wandb = import_optional("wandb", "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run.writer_id("wandb", lambda: uuid.uuid4().hex[:16]),
            resume="allow",
            name=run.path.name,
            config=dict(config),
            allow_val_change=True,  # settings may change when a run continues
            dir=None if is_remote(run.path) else str(run.path),
            reinit="create_new",
            settings=wandb.Settings(console="off", quiet=True),
        )
        # Its own count of steps cannot go back, as a run does that continues from a checkpoint.
        self._exit_code = 0
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._run.log({"step": step, **scalars})

    def flush(self) -> None:
        """Does nothing: a process of the library sends what is logged."""

    def fail(self) -> None:
        """See `Writer`."""
        self._exit_code = 1

    def close(self) -> None:
        """See `Writer`."""
        self._run.finish(exit_code=self._exit_code)


def open_wandb(run: RunFolder, config: Mapping[str, Any]) -> Writer:
    """Opens the writer `wandb`.

    Raises:
      UserError: wandb is not installed.
    """
    import_optional("wandb", "wandb")
    return Background("wandb", lambda: WandbWriter(run, config))
