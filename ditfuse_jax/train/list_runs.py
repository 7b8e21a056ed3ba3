"""`ditfuse runs`: the runs below a folder, one row each."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import list_kinds, reason
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.train.run_lock import FOLDER
from ditfuse_jax.train.run_status import LOG, STATES, RunStatus, read_status
from ditfuse_jax.weights.run_paths import CHECKPOINTS

# Levels of folders that are searched: a sweep's run is `DIR/SWEEP/runs/NAME`.
_DEPTH = 3
_READERS = 8  # runs that are read at a time

_RUN_FILES = {"runs.jsonl", "metrics.jsonl"}
_RUN_FOLDERS = {FOLDER, CHECKPOINTS}  # with numbers in them

# Key -> what a run is sorted by; None comes last.
SORT_KEYS: dict[str, Callable[[RunStatus], Any]] = {
    "name": lambda run: run.name,
    "state": lambda run: (STATES.index(run.state), run.name),
    "step": lambda run: _reversed(run.step),
    "speed": lambda run: _reversed(run.images_per_second),
    "loss": lambda run: None if run.loss is None or math.isnan(run.loss) else run.loss,
    "best": lambda run: (
        run.best and (run.best.criterion.name, -run.best.criterion.rank(run.best.value))
    ),
    "written": lambda run: _reversed(run.written),
    "preset": lambda run: (run.preset, run.name) if run.preset else None,
}


def list_runs(
    folder: Path | str, sort: str = "name", *, say: Callable[[str], None] | None = None
) -> list[RunStatus]:
    """Returns the runs in a folder and up to three levels below it.

    Args:
      folder: of runs, of sweeps, or a run; may be in an object store.
      sort: a key of `SORT_KEYS`: `step`, `speed`, `written` the largest first, `best` the best of
        each scalar first; runs without the value come last.
      say: takes a line about each folder that cannot be read; by default the error stream.

    Raises:
      UserError: there is no such folder.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: give a folder of runs")
    say = say or (lambda line: print(line, file=sys.stderr))
    if not is_remote(folder):
        folder = folder.resolve()  # `.` has no name
    found = list(_find(folder, _DEPTH, say))
    if not is_remote(folder):  # a link to another of these runs, such as `latest`, is no run
        real, paths = [path.resolve() for path in found], set(found)
        pairs = zip(found, real, strict=True)
        found = [path for path, target in pairs if path == target or target not in paths]
    with ThreadPoolExecutor(_READERS) as pool:
        runs = list(pool.map(read_status, found, [_name(path, folder) for path in found]))
    key = SORT_KEYS[sort]
    values = [(key(run), run) for run in sorted(runs, key=lambda run: run.name)]
    known = sorted((pair for pair in values if pair[0] is not None), key=lambda pair: pair[0])
    return [run for _, run in known] + [run for value, run in values if value is None]


def print_runs(folder: Path, sort: str = "name", *, as_json: bool = False) -> None:
    """Prints the runs of `list_runs`: a table, or JSON.

    What is wrong with a run is told in a line below the table, and in JSON with the run.

    Raises:
      UserError: there is no such folder.
    """
    runs = list_runs(folder, sort)
    if as_json:
        print(json.dumps([run.to_dict() for run in runs], indent=2))
        return
    if not runs:
        print(f"no run folders in {folder}")
        return
    print(_table(runs, time.time()))
    for run in runs:
        if run.failure:
            print(f"{run.name} failed: {run.failure}")
        for problem in run.problems:
            print(f"{run.name}: {problem}", file=sys.stderr)


def _find(folder: Path, depth: int, say: Callable[[str], None]) -> Iterator[Path]:
    """Finds run folders, in order; their own folders are not searched."""
    try:
        entries = list_kinds(folder)
    except OSError as error:
        if is_remote(folder):
            raise
        say(f"{folder} cannot be read ({reason(error)}) and is left out")
        return
    folders = [path for path, is_folder in entries if is_folder]
    files = {path.name for path, is_folder in entries if not is_folder}
    if _is_run(folder, files, folders):
        yield folder
    elif depth:
        for path in folders:
            if not path.name.startswith("."):
                yield from _find(path, depth - 1, say)


def _is_run(folder: Path, files: set[str], folders: Sequence[Path]) -> bool:
    if files & _RUN_FILES or (LOG in files and folder.parent.name == "runs"):
        return True
    inner = [path for path in folders if path.name in _RUN_FOLDERS]
    try:
        return any(path.stem.isdigit() for one in inner for path, _ in list_kinds(one))
    except PermissionError:
        return True  # reading the run says what cannot be read


def _name(path: Path, folder: Path) -> str:
    return path.name if path == folder else str(path)[len(str(folder)) :].strip("/\\")


def _reversed(value: float | None) -> float | None:
    return None if value is None else -value


_COLUMNS = ("name", "state", "step", "images/s", "loss", "best", "written", "preset")
_LEFT = ("name", "state", "best", "preset")  # aligned


def _table(runs: Sequence[RunStatus], now: float) -> str:
    lines = [_COLUMNS, *(_row(run, now) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if title in _LEFT else cell.rjust(width)
            for title, cell, width in zip(_COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _row(run: RunStatus, now: float) -> tuple[str, ...]:
    state = run.state
    if state == "training" and run.owner:
        state = f"training on {run.owner.host}"
    best = ""
    if run.best:
        scalar = run.best.criterion.name.removeprefix("eval/")
        best = f"{scalar} {run.best.value:.4g} at {run.best.step}"
    steps = "?" if run.steps is None else run.steps
    return (
        run.name,
        state,
        f"{'-' if run.step is None else run.step}/{steps}",
        "-" if run.images_per_second is None else f"{run.images_per_second:.3g}",
        "-" if run.loss is None else f"{run.loss:.4g}",
        best or "-",
        "-" if run.written is None else f"{_duration(max(now - run.written, 0))} ago",
        run.preset or "-",
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
