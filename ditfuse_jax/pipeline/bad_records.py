"""Unusable records: logged, counted and skipped, up to a fraction of their source."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_bytes
from ditfuse_jax.paths import is_remote

BAD_RECORDS = "bad_records.jsonl"
_OBJECTS = "bad_records"  # of a run folder in an object store: a folder of lines
_SECONDS_BETWEEN_READS = 60.0
_logger = logging.getLogger(__name__)

# Logs whose damaged lines were reported: a training reads its log again and again.
_reported: set[str] = set()


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
        try:
            (_write_object if is_remote(self.log) else _append)(self.log, fields)
        except (OSError, UserError) as problem:  # losing a line is no reason to end the run
            _logger.warning("bad record %s not logged: %s", fields, problem)


def read_bad_records(folder: Path) -> list[dict[str, Any]]:
    """Returns the entries of a run folder's log of bad records.

    Lines that cannot be read are left out; the first time a warning counts them.
    """
    path = Path(folder) / BAD_RECORDS if not is_remote(folder) else folder / _OBJECTS
    files = sorted(path.iterdir()) if is_remote(folder) else [path] if path.exists() else []
    lines = [line for file in files for line in _lines(file.read_bytes())]
    entries = [entry for entry in map(_parse, lines) if entry is not None]
    if len(entries) < len(lines) and str(path) not in _reported:
        _reported.add(str(path))
        _logger.warning("%s: %d damaged lines are left out", path, len(lines) - len(entries))
    return entries


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


def _append(log: Path, fields: dict[str, Any]) -> None:
    known = log.read_bytes() if log.exists() else b""
    if fields in map(_parse, _lines(known)):  # written by another process, or before a restart
        return
    # One write to the end of the file: lines of several processes do not mix.  A line that another
    # one left unfinished, at a full disk or when it was killed, is ended first.
    line = _to_line(fields)
    if known and not known.endswith(b"\n"):
        line = b"\n" + line
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(file, line)
        if written < len(line):  # a disk that becomes full takes only a part
            end = os.lseek(file, 0, os.SEEK_CUR)
            if os.fstat(file).st_size == end:  # no other process wrote after it
                os.ftruncate(file, end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)


def _write_object(log: Path, fields: dict[str, Any]) -> None:
    """Writes a line as an object of its own, since nothing can be appended to one."""
    line = _to_line(fields)
    name = hashlib.sha256(line).hexdigest()[:20]  # equal in all processes
    write_bytes(log.parent / _OBJECTS / f"{name}.json", line)


def _to_line(fields: dict[str, Any]) -> bytes:
    """Returns a line in ASCII: names of files need not be UTF-8, and may hold other line ends."""
    return json.dumps(fields).encode("ascii") + b"\n"


def _lines(data: bytes) -> list[str]:
    return [line for line in data.decode("utf-8", errors="replace").split("\n") if line]


def _parse(line: str) -> dict[str, Any] | None:
    """Returns the entry of a line; None if it is damaged."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    sound = isinstance(entry, dict) and {"source", "record", "reason"} <= set(entry)
    return entry if sound else None
