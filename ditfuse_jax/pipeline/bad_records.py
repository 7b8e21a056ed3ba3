"""Unusable records: logged, counted and skipped, up to a fraction of their source."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError

BAD_RECORDS = "bad_records.jsonl"
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
            known = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
            if line not in known:  # by another process, or before a restart
                # One write to the end of the file: lines of several processes do not mix.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                file = os.open(self.log, flags, 0o644)
                try:
                    os.write(file, line.encode())
                finally:
                    os.close(file)
        except OSError as problem:  # losing a line of the log is no reason to end the run
            _logger.warning("bad record %s not logged: %s", fields, problem)


def read_bad_records(folder: Path) -> list[dict[str, Any]]:
    """Returns the entries of a run folder's log of bad records."""
    path = Path(folder) / BAD_RECORDS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
