"""Writing checkpoints of a run, and restoring its training state.

`weights.run_reader` describes the layout.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from ditfuse_jax.errors import TemporaryError, UserError
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.paths import is_remote
from ditfuse_jax.storage.retries import describe
from ditfuse_jax.storage.tensorstore_errors import is_unavailable, status_of
from ditfuse_jax.storage.tensorstore_watch import watch
from ditfuse_jax.train.best import BestTracker, KeepLatestAndBest
from ditfuse_jax.train.state import TrainState, shardings_of
from ditfuse_jax.weights.resharded_restore import CHUNK_BYTES
from ditfuse_jax.weights.run_paths import LORA, PARAMETERS
from ditfuse_jax.weights.run_reader import EMA, RunReader

_DISK_TROUBLE = ("No space left on device", "Read-only file system", "Permission denied")

# Field of the training state -> its name in older checkpoints.
_OLD_NAMES = {"grad_norm_ema": "usual_grad_norm"}


class Checkpoints(RunReader):
    """The checkpoints of one run folder, to be written and read."""

    def __init__(
        self,
        run: Path,
        keep: int | None = None,
        trained: str = PARAMETERS,
        best: BestTracker | None = None,
    ):
        """Opens or creates `run/checkpoints`.

        Args:
          run: the run folder.
          keep: how many of the newest steps are kept when another is saved; None keeps all.
          trained: the item of the trainable parameters, `PARAMETERS` or `LORA`.
          best: determines the best step, which is kept beside the newest.
        """
        options = ocp.CheckpointManagerOptions(
            preservation_policy=KeepLatestAndBest(keep, best),
            # A save that was killed leaves a temporary folder; it is no checkpoint and is removed.
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        super().__init__(run, options)
        self._trained = trained

    def save(self, step: int, state: TrainState, config: Mapping[str, Any]) -> None:
        """Starts to save a step: returns when the values are copied, and writes in the background.

        Raises:
          UserError: this save or the one before it could not be written.
        """
        items = {
            self._trained: _save_args(state.parameters),
            "training": _save_args(_training_part(state)),
            "config": ocp.args.JsonSave(dict(config)),
        }
        if state.ema is not None:
            items[EMA] = _save_args(state.ema)
        with write_errors(self.folder):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        if is_remote(self.folder):
            watch(str(self.folder), self._manager.is_saving_in_progress)

    def kept_average(self, step: int) -> bool:
        """Whether the training of a step kept an average of the parameters.

        Raises:
          UserError: the step is damaged.
        """
        if self.has(step, EMA):
            return True
        return self.config(step).get("train", {}).get("ema_decay") != 0  # else the item was lost

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Restores a state into the shardings of `abstract`, whatever mesh it was saved from.

        If the run kept no average so far and `abstract` has one, it begins with the parameters.

        Raises:
          UserError: an array is missing, unexpected or of another shape; the message names it.
        """
        if not self.has(step, "training"):
            raise UserError(
                f"{self.folder.parent} holds weights and no training to continue: choose another "
                f"--workdir and start from these with --config.weights={self.folder.parent}"
            )
        stored = {path[0] for path in self.shapes(step, "training")}
        training = _training_part(abstract)
        names = {name: _OLD_NAMES.get(name, name) for name in training}
        names = {name: old if old in stored else name for name, old in names.items()}
        targets = {
            self._trained: abstract.parameters,
            "training": {names[name]: value for name, value in training.items()},
        }
        if abstract.ema is not None and self.kept_average(step):
            targets[EMA] = abstract.ema
        restored = self.read_arrays(step, targets)
        ema = restored.get(EMA)
        if abstract.ema is not None and ema is None:
            # A copy: the training step reuses the memory of both.
            copy = jax.jit(
                functools.partial(jax.tree.map, jnp.copy), out_shardings=shardings_of(abstract.ema)
            )
            ema = copy(restored[self._trained])
        return TrainState(
            parameters=restored[self._trained],
            ema=ema,
            **{name: restored["training"][names[name]] for name in training},
        )

    def save_config(
        self, step: int, config: Mapping[str, Any], adapter: Parameters | None = None
    ) -> None:
        """Saves a step that holds a config, and an adapter if one is given.

        Raises:
          UserError: it could not be written.
        """
        with write_errors(self.folder):
            items: dict[str, Any] = {"config": ocp.args.JsonSave(dict(config))}
            if adapter is not None:
                items[LORA] = _save_args(adapter)
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
            self._manager.wait_until_finished()

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: it could not be written.
        """
        with write_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is on disk and releases the manager.

        Raises:
          UserError: it could not be written.
        """
        with write_errors(self.folder):
            super().close()


def _training_part(state: TrainState) -> dict[str, Any]:
    names = ("step", "optimizer", "skipped", "grad_norm_ema")
    return {name: getattr(state, name) for name in names}


def _save_args(tree: Any) -> ocp.args.StandardSave:
    arguments = ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES)
    return ocp.args.StandardSave(tree, save_args=jax.tree.map(lambda _: arguments, tree))


@contextlib.contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turns a failed write into a `UserError` that names the folder; other errors pass."""
    try:
        yield
    except Exception as error:
        if not _is_of_storage(error):
            raise
        text = describe(error)
        reason = next((r for r in _DISK_TROUBLE if r in text), text[:160])
        remedy = "free space or choose another folder"
        if is_remote(folder):
            remedy = "check the bucket and your permissions"
        passes = is_unavailable(error) or isinstance(error, TemporaryError)
        raise (TemporaryError if passes else UserError)(
            f"cannot write a checkpoint in {folder}: {reason}; {remedy}, then run the same command "
            "to continue; earlier checkpoints are intact"
        ) from error


def _is_of_storage(error: Exception) -> bool:
    """Whether an error comes from a disk or store, not from the program or a device."""
    if isinstance(error, OSError):
        return True
    # Tensorstore adds its spec to some errors.
    named = isinstance(error, ValueError) and "tensorstore" in str(error)
    return named or status_of(error) is not None
