"""The metrics of a run as JSON lines: reading them, and going back to an earlier step.

On a file system they are one file, `metrics.jsonl`, to which lines are appended.  Objects of a
bucket cannot be appended to: there they are parts in the folder `metrics`, read in the order of
their names; see `writers.appended`.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tqdm

from ditfuse_jax.files import list_folder, new_file, read_range, write_text

_READERS = 16  # parts that are read at a time

# Files whose damaged lines were reported: a sweep reads the same files every few seconds.
_reported: set[str] = set()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a run's metrics.

    Lines that cannot be read are left out; the first time a warning counts them.  An incomplete
    last line, which may be still written, is left out too.

    Args:
      path: `metrics.jsonl` in the run folder, which need not exist.
    """
    files = metrics_files(path)
    with ThreadPoolExecutor(_READERS) as pool:
        texts = list(pool.map(_read_text, files)) if len(files) > 1 else map(_read_text, files)
    found = []
    for file, text in zip(files, texts, strict=True):
        records = [_parse(line) for line in _complete_lines(text)]
        sound = [record for record in records if record is not None]
        if len(sound) < len(records) and str(file) not in _reported:
            _reported.add(str(file))
            first = records.index(None) + 1
            tqdm.tqdm.write(
                f"{file}: {len(records) - len(sound)} damaged lines are left out, the first is "
                f"line {first}",
                file=sys.stderr,
            )
        found += sound
    return found


def last_records(path: Path, size: int = 1 << 17) -> tuple[list[dict[str, Any]], int]:
    """Returns the newest records of a run's metrics, however long they are.

    Args:
      path: `metrics.jsonl` in the run folder, which need not exist.
      size: number of bytes to read from the end.

    Returns:
      The records, the oldest first, and the number of damaged lines among them.

    Raises:
      OSError: the metrics cannot be read.
    """
    found: list[dict[str, Any]] = []
    damaged = 0
    for file in reversed(metrics_files(path)):
        stop = file.stat().st_size
        start = max(stop - size, 0)
        text = read_range(file, start, stop).decode("utf-8", errors="replace")
        lines = _complete_lines(text)[1 if start else 0 :]  # the first one may be cut
        records = [record for record in map(_parse, lines) if record is not None]
        found, damaged = records + found, damaged + len(lines) - len(records)
        size -= stop - start
        if size <= 0:
            break
    return found, damaged


def metrics_files(path: Path) -> list[Path]:
    """Returns the files that hold a run's metrics, the oldest first.

    Args:
      path: `metrics.jsonl` in the run folder, which need not exist.
    """
    parts = [part for part in list_folder(path.with_suffix("")) if part.suffix == ".jsonl"]
    return [*([path] if path.exists() else []), *parts]


@dataclasses.dataclass(frozen=True)
class SetAside:
    """What `set_aside` took out of a run's metrics.

    Attributes:
      path: the file that holds it now.
      records: number of records.
      last: the last step among them.
      damaged: number of lines that cannot be read.
    """

    path: Path
    records: int
    last: int
    damaged: int

    def __str__(self) -> str:
        parts = []
        if self.records:
            parts.append(f"{self.records} records of later steps, up to {self.last},")
        if self.damaged:
            parts.append(f"{self.damaged} damaged lines")
        return f"{' and '.join(parts)} were moved from the metrics to {self.path}"


def set_aside(path: Path, step: int) -> SetAside | None:
    """Moves the records after a step, and damaged lines, to a file beside the metrics.

    A run that continues from the step would record these steps twice.

    Args:
      path: `metrics.jsonl` in the run folder, which need not exist.
      step: the last one that stays.

    Returns:
      What was moved; None if there was nothing.

    Raises:
      UserError: the folder cannot be written.
    """
    changed: list[tuple[Path, list[str], list[str]]] = []
    earlier = False  # whether the parts before hold earlier steps only
    for file in reversed(metrics_files(path)):
        if earlier and file != path:
            continue
        kept, moved = _split(file, step)
        if moved:
            changed.insert(0, (file, kept, moved))
        earlier = bool(kept) and not moved
    lines = [line for _, _, moved in changed for line in moved]
    if not lines:
        return None
    target = new_file(path, f"after_{step}")
    write_text(target, "".join(lines))
    for file, kept, _ in changed:
        if kept or file == path:
            write_text(file, "".join(kept))
        else:
            file.unlink()
    # An incomplete line may be readable: it counts as damaged only if it is not.
    steps = [record["step"] for record in map(_parse, lines) if record is not None]
    return SetAside(target, len(steps), max(steps, default=0), len(lines) - len(steps))


def _split(file: Path, step: int) -> tuple[list[str], list[str]]:
    """Returns the lines that stay, and those that are moved."""
    kept, moved = [], []
    text = _read_text(file)
    for line in _complete_lines(text):
        record = _parse(line)
        (moved if record is None or record["step"] > step else kept).append(f"{line}\n")
    if not text.endswith("\n") and text:
        moved.append(text.rpartition("\n")[2] + "\n")
    return kept, moved


def _read_text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", errors="replace")


def _complete_lines(text: str) -> Sequence[str]:
    return text.split("\n")[:-1]


def _parse(line: str) -> dict[str, Any] | None:
    """Returns the record of a line; None if it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    sound = isinstance(record, dict) and type(record.get("step")) is int
    return record if sound else None
