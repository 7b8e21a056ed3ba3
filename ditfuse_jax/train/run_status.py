"""How a run is doing, by what its folder holds; read without JAX, also while the run trains."""

import dataclasses
import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import list_folder, read_range, reason
from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.metrics_files import last_records, metrics_files
from ditfuse_jax.train.run_lock import EXPIRES_AFTER, Owner, last_owner
from ditfuse_jax.weights.best_step import FILE as BEST
from ditfuse_jax.weights.best_step import Criterion, best_step, read_best
from ditfuse_jax.weights.run_paths import CHECKPOINTS, is_complete

STATES = ("training", "failed", "stopped", "finished")

LOG = "log.txt"  # what a sweep's training prints
_LOG_END = 4096  # bytes
_SPEED_OF = 5  # records whose median is the speed

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Best:
    """The best evaluated step by `train.keep_best`.

    Attributes:
      criterion: the scalar and which of its values are better.
      value: of the step.
      step: number of updates.
    """

    criterion: Criterion
    value: float
    step: int


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """A run at one time; None stands for what its folder does not say.

    Attributes:
      name: path of the run folder below the folder that was searched.
      path: of the run folder.
      state: `training` by a process that runs, `finished` at its last step, `failed` if it ended
        with an error or was killed, else `stopped`.
      owner: the process that trains, or that trained last.
      failure: why a failed run failed, in one line.
      step: number of updates, by the last record or the newest checkpoint.
      steps: at which it ends.
      images_per_second: median of the last records.
      seconds_per_step: the same for whole batches.
      loss: in the last record.
      best: the best of the steps with a checkpoint, or of all if there is no checkpoint.
      written: when something was last written, seconds since 1970; a live owner writes every 15 s.
      preset: of the model.
      problems: what is missing or cannot be read, a line each.
    """

    name: str
    path: Path
    state: str
    owner: Owner | None = None
    failure: str = ""
    step: int | None = None
    steps: int | None = None
    images_per_second: float | None = None
    seconds_per_step: float | None = None
    loss: float | None = None
    best: Best | None = None
    written: float | None = None
    preset: str = ""
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; infinity and NaN as strings that `float` reads."""
        best = None
        if self.best:
            best = {
                "metric": self.best.criterion.name,
                "direction": self.best.criterion.direction,
                "value": _plain(self.best.value),
                "step": self.best.step,
            }
        return {
            "name": self.name,
            "path": str(self.path),
            "state": self.state,
            "host": self.owner.host if self.owner else None,
            "process": self.owner.process if self.owner else None,
            "failure": self.failure,
            "step": self.step,
            "steps": self.steps,
            "images_per_second": _plain(self.images_per_second),
            "seconds_per_step": _plain(self.seconds_per_step),
            "loss": _plain(self.loss),
            "best": best,
            "written": self.written,
            "preset": self.preset,
            "problems": list(self.problems),
        }


def read_status(run: Path, name: str = "") -> RunStatus:
    """Reads a run folder; what is missing or damaged is among the result's problems.

    Whether an owner on another machine is alive is decided by the age of its file, so this
    machine's clock and the storage's must agree within seconds.

    Args:
      run: the folder.
      name: of the run; empty for the folder's.

    Raises:
      OSError: an object store does not answer.
    """
    reader = _Reader(run)
    config = reader.config()
    records = reader.records()
    saved = reader.checkpoints()
    best = reader.best(saved)
    steps = _number(config, "train", "steps")
    batch = _number(config, "data", "batch_size")
    seen = [record["step"] for record in records[-1:]] + saved[-1:]
    step = max(seen, default=None)
    finished = steps is not None and bool(saved) and saved[-1] >= steps
    state, owner, failure = reader.state(finished)
    if step is None and state != "training" and not failure:
        reader.problems.append("it holds neither metrics nor a checkpoint")
    if step is not None and config is None:
        reader.problems.append("config.json is missing")
    speed = _speed(records)
    return RunStatus(
        name=name or run.name,
        path=run,
        state=state,
        owner=owner,
        failure=failure,
        step=step,
        steps=None if steps is None else int(steps),
        images_per_second=speed,
        seconds_per_step=batch / speed if batch and speed else None,
        loss=next((float(r["loss"]) for r in reversed(records) if _is_number(r.get("loss"))), None),
        best=best,
        written=reader.written(),
        preset=str(_value(config, "model", "preset") or ""),
        problems=tuple(reader.problems),
    )


class _Reader:
    """Reads the parts of a run folder and collects what is wrong with them."""

    def __init__(self, run: Path):
        self._run = run
        self.problems: list[str] = []

    def config(self) -> Mapping[str, Any] | None:
        """Returns the config, empty if it cannot be read; None if there is none."""

        def read() -> Mapping[str, Any] | None:
            try:
                found = json.loads((self._run / "config.json").read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
            return found

        return self._try("config.json", read, {})

    def records(self) -> list[dict[str, Any]]:
        records, damaged = self._try("metrics", lambda: last_records(self._metrics), ([], 0))
        if damaged:
            self.problems.append(f"metrics: {damaged} damaged lines near the end are left out")
        return records

    def checkpoints(self) -> list[int]:
        def read() -> list[int]:
            steps = list_folder(self._run / CHECKPOINTS)
            return sorted(int(path.name) for path in steps if is_complete(path))

        return self._try(CHECKPOINTS, read, [])

    def best(self, saved: list[int]) -> Best | None:
        path = self._run / BEST
        found = self._try(BEST, lambda: read_best(path) if path.exists() else None, None)
        if found is None:
            return None
        steps = [step for step in saved if step in found.values] or list(found.values)
        step = best_step(found.criterion, found.values, steps)
        return None if step is None else Best(found.criterion, found.values[step], step)

    def state(self, finished: bool) -> tuple[str, Owner | None, str]:
        """Returns the state, the owner and why the run failed."""
        ended = "finished" if finished else "stopped"
        if self._lock is None:
            return self._by_log(ended, None)
        path, owner = self._lock
        if owner is None:
            self.problems.append(f"lock/{path.name} is damaged")
        running = owner.is_running() if owner else None
        if running is None:
            modified = self._modified(path)
            running = modified is not None and time.time() - modified < EXPIRES_AFTER
        if running:
            return "training", owner, ""
        if owner and owner.failure:
            return "failed", owner, owner.failure
        if owner and not owner.released and not finished:
            return "failed", owner, f"{owner} was killed or lost"
        return self._by_log(ended, owner)

    def written(self) -> float | None:
        """Returns when the newest of the files that a training writes was changed."""
        names = ("config.json", "runs.jsonl", BEST, LOG)
        paths = [self._run / name for name in names]
        paths += self._try("metrics", lambda: metrics_files(self._metrics)[-1:], [])
        paths += [self._lock[0]] if self._lock else []
        times = [modified for path in paths if (modified := self._modified(path)) is not None]
        return max(times, default=None)

    @functools.cached_property
    def _lock(self) -> tuple[Path, Owner | None] | None:
        return self._try("lock", lambda: last_owner(self._run), None)

    @property
    def _metrics(self) -> Path:
        return self._run / "metrics.jsonl"

    def _by_log(self, ended: str, owner: Owner | None) -> tuple[str, Owner | None, str]:
        """Decides by a sweep's log where the lock does not hold an error."""
        line = "" if ended == "finished" else self._try(LOG, lambda: _last_line(self._run), "")
        failed = line.startswith("ditfuse train: error: ")
        return ("failed", owner, line) if failed else (ended, owner, "")

    def _modified(self, path: Path) -> float | None:
        try:
            return path.stat().st_mtime
        except OSError:
            return None

    def _try(self, what: str, read: Callable[[], T], otherwise: T) -> T:
        """Calls a function; if the folder is at fault, notes that and returns another value."""
        try:
            return read()
        except OSError as error:
            if is_remote(self._run):
                raise
            problem = f"{what} cannot be read ({reason(error)})"
        except (UserError, ValueError):
            problem = f"{what} is damaged"
        if problem not in self.problems:
            self.problems.append(problem)
        return otherwise


def _last_line(run: Path) -> str:
    """Returns the last line of a sweep's log; empty without one."""
    path = run / LOG
    if not path.is_file():
        return ""
    stop = path.stat().st_size
    text = read_range(path, max(stop - _LOG_END, 0), stop).decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _speed(records: list[dict[str, Any]]) -> float | None:
    speeds = [record.get("images_per_second") for record in records]
    found = [float(speed) for speed in speeds if _is_number(speed)][-_SPEED_OF:]
    return statistics.median(found) if found else None


def _value(config: Mapping[str, Any] | None, section: str, key: str) -> Any:
    values = (config or {}).get(section)
    return values.get(key) if isinstance(values, dict) else None


def _number(config: Mapping[str, Any] | None, section: str, key: str) -> float | None:
    value = _value(config, section, key)
    return value if _is_number(value) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
