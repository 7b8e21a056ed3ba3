"""Checkpoints: what a run must not lose, saved together and restored anywhere.

One orbax step folder holds the items `parameters` (or, where only low-rank adapters train, `lora`),
`ema`, `training` (optimiser and counters), `position` (of the data) and `config`, so that using a
model reads its parameters only.  Converted weights are such a folder without training and position.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.best import Best, KeepLatestAndBest
from ditfuse_jax.train.paths import FOLDER, LORA, PARAMETERS
from ditfuse_jax.train.resharded_restore import CHUNK_BYTES, restore_moving
from ditfuse_jax.train.state import Parameters, TrainState

ARRAY_ITEMS = (PARAMETERS, LORA, "ema", "training")

_DISK_TROUBLE = ("No space left on device", "Read-only file system", "Permission denied")


@dataclasses.dataclass(frozen=True)
class Position:
    """Where the data stream stands: batches consumed over all hosts together."""

    batches: int


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(
        self,
        run: Path,
        keep: int | None = None,
        read_only: bool = False,
        trained: str = PARAMETERS,
        best: Best | None = None,
    ):
        """Opens `run/checkpoints`.

        Args:
          run: the run folder.
          keep: how many of the newest steps survive a save; None means all.
          read_only: nothing is written or tidied.
          trained: the item that holds what trains, `PARAMETERS` or `LORA`.
          best: knows the best step, which survives beside the newest.
        """
        self.folder = Path(run).absolute() / FOLDER
        self._trained = trained
        options = ocp.CheckpointManagerOptions(
            preservation_policy=KeepLatestAndBest(keep, best),
            create=not read_only,
            read_only=read_only,
            # A save that was killed leaves a temporary folder; it is no checkpoint and goes.
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=True,
        )
        arrays, texts = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
        handlers = {name: arrays() for name in ARRAY_ITEMS}
        handlers |= {name: texts() for name in ("position", "config")}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    @property
    def latest(self) -> int | None:
        """The newest complete step."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def save(
        self, step: int, state: TrainState, position: Position, config: Mapping[str, Any]
    ) -> None:
        """Starts saving; returns once the values are copied, the writing goes on behind.

        Raises:
          UserError: this save or the one before it could not be written.
        """
        items = {
            self._trained: _saved(state.parameters),
            "training": _saved(_training_part(state)),
            "position": ocp.args.JsonSave(dataclasses.asdict(position)),
            "config": ocp.args.JsonSave(dict(config)),
        }
        if state.ema is not None:
            items["ema"] = _saved(state.ema)
        with telling_where(self.folder):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, Position]:
        """Restores a state into the shardings of `abstract`, whatever mesh it was saved from.

        Raises:
          UserError: a leaf is missing, surplus or has another shape; the message names it.
        """
        if not self.has(step, "training"):
            raise UserError(
                f"{self.folder.parent} holds weights and no training to continue: choose another "
                f"--workdir and start from these with --config.weights={self.folder.parent}"
            )
        targets = {self._trained: abstract.parameters, "training": _training_part(abstract)}
        if abstract.ema is not None:
            targets["ema"] = abstract.ema
        restored = self._restore_arrays(step, targets)
        state = TrainState(
            parameters=restored[self._trained],
            ema=restored["ema"] if abstract.ema is not None else None,
            **restored["training"],
        )
        position = self._restore(step, {"position": ocp.args.JsonRestore()})["position"]
        return state, Position(**position)

    def restore_parameters(self, step: int, abstract: Any) -> tuple[Any, str]:
        """Restores the parameters to use a model with: the averaged ones where there are any.

        Returns:
          The parameters and which they are: `ema`, `parameters` or `lora`.

        Raises:
          UserError: see `restore`.
        """
        item = next((i for i in ("ema", LORA) if self.has(step, i)), PARAMETERS)
        return self._restore_arrays(step, {item: abstract})[item], item

    def has(self, step: int, item: str) -> bool:
        """Whether the step holds the item."""
        return (self.folder / str(step) / item).is_dir()

    def config(self, step: int) -> dict[str, Any]:
        """The resolved config the step was trained with."""
        return self._restore(step, {"config": ocp.args.JsonRestore()})["config"]

    def save_config(
        self, step: int, config: Mapping[str, Any], adapter: Parameters | None = None
    ) -> None:
        """Makes a step that holds a config, and an adapter or nothing else yet.

        Raises:
          UserError: it could not be written.
        """
        with telling_where(self.folder):
            items: dict[str, Any] = {"config": ocp.args.JsonSave(dict(config))}
            if adapter is not None:
                items[LORA] = _saved(adapter)
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
            self._manager.wait_until_finished()

    def abstract(self, step: int, item: str) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
        """Path -> shape and type, of all arrays of an item.

        Raises:
          UserError: the item is missing or damaged.
        """
        with self._telling_damage(step):
            leaves = jax.tree_util.tree_leaves_with_path(self._manager.item_metadata(step)[item])
            return {
                tuple(_name(path).split("/")): jax.ShapeDtypeStruct(x.shape, x.dtype)
                for path, x in leaves
            }

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: it could not be written.
        """
        with telling_where(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          UserError: it could not be written.
        """
        with telling_where(self.folder):
            self._manager.close()

    def _restore_arrays(self, step: int, targets: Mapping[str, Any]) -> dict[str, Any]:
        """Restores items where their targets say, reading each byte about once.

        Raises:
          UserError: see `restore`.
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

        restored = restore_moving(read, chunks, flat)
        return jax.tree.unflatten(jax.tree.structure(targets), [restored[name] for name in flat])

    def _restore(self, step: int, items: Mapping[str, Any]) -> Any:
        with self._telling_damage(step):
            return self._manager.restore(step, args=ocp.args.Composite(**items))

    @contextlib.contextmanager
    def _telling_damage(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise nearly any type on damaged files
            reason = " ".join(str(error).split())[:160]
            others = [other for other in self.steps if other != step]
            remedy = f"remove it to use step {max(others)}" if others else "it cannot be used"
            raise UserError(
                f"checkpoint {self.folder / str(step)} is damaged ({reason}): {remedy}"
            ) from error

    def _check(self, step: int, item: str, target: Any) -> dict[str, tuple[int, ...]]:
        """Compares names and shapes; returns the shapes of the chunks."""
        with self._telling_damage(step):
            if not self.has(step, item):
                raise FileNotFoundError(f"item {item!r} is missing")
            stored = _flat(self._manager.item_metadata(step)[item])
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


def _training_part(state: TrainState) -> dict[str, Any]:
    names = ("step", "optimizer", "skipped", "grad_norm_ema")
    return {name: getattr(state, name) for name in names}


def _saved(tree: Any) -> ocp.args.StandardSave:
    arguments = ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES)
    return ocp.args.StandardSave(tree, save_args=jax.tree.map(lambda _: arguments, tree))


def _flat(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    """A leaf's name, the same whether containers are tuples (here) or lists and dicts (on disk)."""
    parts = [getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path]
    return "/".join(str(part) for part in parts)


@contextlib.contextmanager
def telling_where(folder: Path) -> Iterator[None]:
    """Turns a failed write into a `UserError` that names the folder."""
    try:
        yield
    except Exception as error:  # a full disk is a ValueError of tensorstore with the reason inside
        text = " ".join(str(error).split())
        reason = next((r for r in _DISK_TROUBLE if r in text), text[:160])
        raise UserError(
            f"cannot write a checkpoint in {folder}: {reason}; free space or choose another "
            "folder, then run the same command to continue"
        ) from error
