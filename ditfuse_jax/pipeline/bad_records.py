"""Unusable records: logged, counted and skipped, up to a fraction of their source."""

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.paths import is_remote

BAD_RECORDS = "bad_records.jsonl"
_OBJECTS = "bad_records"  # of a run folder in an object store: a folder of lines
_SECONDS_BETWEEN_READS = 60.0
_logger = logging.getLogger(__name__)


class BadRecordBudget:
    """Counts the unusable records of one source and stops beyond a limit.

    Every process of a pipeline counts separately.  They share the log, which has a line of JSON
    with `source`, `record` and `reason` for every bad record.
    """

    def __init__(self, source: str, total: int, max_fraction: float, log: Path | None = None):
        """Creates a budget that is not used yet.

        Args:
          source: its name, for messages.
          total: the number of its records.
          max_fraction: the fraction of them that may be bad; 0 allows none.
          log: a file to append to.
        """
        self.source, self.total, self.max_fraction, self.log = source, total, max_fraction, log
        self._found: dict[str, str] = {}

    def add(self, record: str, error: UserError) -> None:
        """Counts and logs a bad record.

        Raises:
          UserError: there are too many; the record's own error where none is allowed.
        """
        if record not in self._found:
            self._found[record] = str(error)
            self._write(record, str(error))
        if not self.max_fraction:
            raise error
        if len(self._found) > self.max_fraction * self.total:
            first, reason = next(iter(self._found.items()))
            raise UserError(
                f"{len(self._found)} of {self.total} records of {self.source} cannot be used, more "
                f"than data.max_bad_fraction {self.max_fraction:.2%}: first {first} ({reason}); "
                "repair or remove them, or raise data.max_bad_fraction"
            ) from error

    def _write(self, record: str, reason: str) -> None:
        if self.log is None:
            return
        fields = {"source": self.source, "record": record, "reason": reason}
        line = json.dumps(fields, ensure_ascii=False) + "\n"
        try:
            (_write_object if is_remote(self.log) else _append)(self.log, line)
        except (OSError, UserError) as problem:  # losing a line is no reason to end the run
            _logger.warning("bad record %s not logged: %s", fields, problem)


def read_bad_records(folder: Path) -> list[dict[str, Any]]:
    """Returns the entries of a run folder's log of bad records."""
    if is_remote(folder):
        paths = sorted((folder / _OBJECTS).iterdir())
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    path = Path(folder) / BAD_RECORDS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class RecentBadRecords:
    """The bad records of a run, read without waiting for an object store.

    From an object store they are read in a thread, at most once a minute.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._found: list[dict[str, Any]] = []
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def read(self) -> list[dict[str, Any]]:
        """Returns what is known now."""
        if not is_remote(self._folder):
            return read_bad_records(self._folder)
        idle = self._thread is None or not self._thread.is_alive()
        if idle and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_READS
            self._thread = threading.Thread(target=self._update, daemon=True)
            self._thread.start()
        return self._found

    def _update(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the next time
            self._found = read_bad_records(self._folder)


def _append(log: Path, line: str) -> None:
    known = log.read_text(encoding="utf-8") if log.exists() else ""
    if line in known:  # written by another process, or before a restart
        return
    # One write to the end of the file: lines of several processes do not mix.
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def _write_object(log: Path, line: str) -> None:
    """Writes a line as an object of its own, since nothing can be appended to one."""
    name = hashlib.sha256(line.encode()).hexdigest()[:20]  # equal in all processes
    write_text(log.parent / _OBJECTS / f"{name}.json", line)
