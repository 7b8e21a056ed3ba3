"""Reading the checkpoints of a run folder.

One orbax step folder holds the items `parameters` (or `lora`, if only low-rank adapters were
trained), `ema`, `training` (optimiser and counters) and `config`, so that using a model reads its
parameters only.  Converted weights are such a folder without `training`.  `train.checkpoint` writes
them.
"""

import contextlib
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ditfuse_jax import compat
from ditfuse_jax.config_names import with_current_names
from ditfuse_jax.errors import TemporaryError, UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.storage.retries import StorageError
from ditfuse_jax.storage.tensorstore_errors import is_refused, is_unavailable, status_of, summary
from ditfuse_jax.weights.resharded_restore import restore_resharded
from ditfuse_jax.weights.run_paths import CHECKPOINTS, LORA, PARAMETERS, check_storage

# Numbers of errors of a disk, a network or permissions, which say nothing about what is stored.
_ACCESS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)

EMA = "ema"
ARRAY_ITEMS = (PARAMETERS, LORA, EMA, "training")
JSON_ITEMS = ("config",)


class RunReader:
    """The checkpoints of one run folder, to be read."""

    def __init__(self, run: Path, options: ocp.CheckpointManagerOptions | None = None):
        """Opens `run/checkpoints`.

        Args:
          run: the run folder.
          options: of the checkpoint manager; by default nothing is written or deleted.
        """
        run = as_path(run).absolute()
        check_storage(run)
        self.folder = run / CHECKPOINTS
        options = options or ocp.CheckpointManagerOptions(create=False, read_only=True)
        handlers: dict[str, Any] = {name: ocp.StandardCheckpointHandler() for name in ARRAY_ITEMS}
        handlers |= {name: ocp.JsonCheckpointHandler() for name in JSON_ITEMS}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    @property
    def latest(self) -> int | None:
        """The newest complete step."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """All complete steps, ascending."""
        return sorted(self._manager.all_steps())

    def has(self, step: int, item: str) -> bool:
        """Whether the step holds the item."""
        return (self.folder / str(step) / item).is_dir()

    def config(self, step: int) -> dict[str, Any]:
        """Returns the resolved config the step was trained with, under current key names.

        Raises:
          UserError: the step is damaged.
        """
        return with_current_names(self.read_json(step, "config"))

    def model_item(self, step: int) -> str:
        """Returns the item to use a model with: `ema` if it exists, else `lora` or `parameters`."""
        return next((item for item in (EMA, LORA) if self.has(step, item)), PARAMETERS)

    def shapes(self, step: int, item: str) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
        """Returns path -> shape and type of all arrays of an item.

        Raises:
          UserError: the item is missing or damaged.
        """
        return {
            tuple(name.split("/")): jax.ShapeDtypeStruct(x.shape, x.dtype)
            for name, x in self._metadata(step, item).items()
        }

    def read_json(self, step: int, item: str) -> dict[str, Any]:
        """Reads one of `JSON_ITEMS`.

        Raises:
          UserError: the item is missing or damaged.
        """
        return self._restore(step, {item: ocp.args.JsonRestore()})[item]

    def read_arrays(self, step: int, targets: Mapping[str, Any]) -> dict[str, Any]:
        """Reads items into the shardings of their targets, each byte about once.

        Args:
          step: the step.
          targets: item -> tree of abstract arrays.

        Raises:
          UserError: an array is missing, unexpected or of another shape; the message names it.
        """
        chunks = {}
        for item, target in targets.items():
            chunks |= {f"{item}/{k}": v for k, v in self._check(step, item, target).items()}
        flat = _flat(targets)

        def read(placed: dict[str, Any]) -> dict[str, Any]:
            trees = jax.tree.unflatten(jax.tree.structure(targets), list(placed.values()))
            restores = {item: ocp.args.StandardRestore(tree) for item, tree in trees.items()}
            found = self._restore(step, restores)
            return _flat({item: found[item] for item in targets})

        restored = restore_resharded(read, chunks, flat)
        return jax.tree.unflatten(jax.tree.structure(targets), [restored[name] for name in flat])

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restore(self, step: int, items: Mapping[str, Any]) -> Any:
        with self._naming_damage(step):
            return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _metadata(self, step: int, item: str) -> dict[str, Any]:
        with self._naming_damage(step):
            if not self.has(step, item):
                raise FileNotFoundError(f"item {item!r} is missing")
            return _flat(self._manager.item_metadata(step)[item])

    @contextlib.contextmanager
    def _naming_damage(self, step: int) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # orbax and tensorstore raise nearly any type on damaged files
            reason = " ".join(str(error).split())[:160]
            if cause := _access_failure(error):
                if status_of(cause):
                    reason = summary(cause)
                passes = isinstance(cause, TemporaryError) or is_unavailable(cause)
                raise (TemporaryError if passes else UserError)(
                    f"checkpoint {self.folder / str(step)} cannot be read ({reason}): it may be "
                    "intact; check the store and your permissions, then run the same command"
                ) from error
            others = [other for other in self.steps if other != step]
            remedy = f"remove it to use step {max(others)}" if others else "it cannot be used"
            raise UserError(
                f"checkpoint {self.folder / str(step)} is damaged ({reason}): {remedy}"
            ) from error

    def _check(self, step: int, item: str, target: Any) -> dict[str, tuple[int, ...]]:
        """Compares names and shapes; returns the shapes of the stored chunks."""
        stored = self._metadata(step, item)
        found = {name: tuple(x.shape) for name, x in stored.items()}
        wanted = {name: tuple(x.shape) for name, x in _flat(target).items()}
        for problem, names in (
            ("lacks", sorted(set(wanted) - set(found))),
            ("has surplus", sorted(set(found) - set(wanted))),
            ("has another shape for", sorted(k for k in wanted if found.get(k) != wanted[k])),
        ):
            if names:
                first = names[0]
                shapes = f"found {found.get(first)}, expected {wanted.get(first)}"
                raise UserError(
                    f"checkpoint {self.folder / str(step)} {problem} {item}/{first} ({shapes}) and "
                    f"{len(names) - 1} more: was it made with another preset or optimiser?"
                )
        return {name: x.storage.chunk_shape for name, x in stored.items() if x.storage is not None}


def _access_failure(error: BaseException) -> Exception | None:
    """Returns what of an error and its causes says that a disk or store was not read at all.

    The first one decides that is an error of the system or of tensorstore.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while isinstance(cause, Exception) and cause not in seen:
        seen.append(cause)
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause if cause.errno in _ACCESS else None
        if status_of(cause) is not None:
            return cause if is_unavailable(cause) or is_refused(cause) else None
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def read_stored(item: Path, path: tuple[str, ...], layers: slice | None) -> np.ndarray:
    """Reads one array of an orbax item, or some of its rows.

    Raises:
      UserError: the array cannot be read.
    """
    try:
        array = compat.open_orbax_array(item, path)
        return np.asarray(array[layers or slice(None)].read().result())
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"cannot read {'.'.join(path)} in {item}: {reason}") from error


def _flat(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    """A leaf's name, the same whether containers are tuples (here) or lists and dicts (on disk)."""
    parts = [getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path]
    return "/".join(str(part) for part in parts)
