"""Bad records: named, counted and passed over up to a share of their source, then a clear stop."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError

BAD_RECORDS = "bad_records.jsonl"
_logger = logging.getLogger(__name__)


class BadRecordBudget:
    """What one source may lose.

    Every process of a pipeline counts for itself.  The log is common to all: a line of JSON with
    `source`, `record` and `reason` for every bad record, written once.
    """

    def __init__(self, source: str, total: int, share: float, log: Path | None = None):
        """Args:
        source: its name, for messages.
        total: its records.
        share: of them that may be bad; 0 tolerates none.
        log: a file to append to.
        """
        self.source, self.total, self.share, self.log = source, total, share, log
        self._found: dict[str, str] = {}

    def accept(self, record: str, error: UserError) -> None:
        """Notes a bad record.

        Raises:
          UserError: it is one too many; the record's own error where none is tolerated.
        """
        if record not in self._found:
            self._found[record] = str(error)
            self._write(record, str(error))
        if not self.share:
            raise error
        if len(self._found) > self.share * self.total:
            first, reason = next(iter(self._found.items()))
            raise UserError(
                f"{len(self._found)} of {self.total} records of {self.source} cannot be used, more "
                f"than data.max_bad_fraction {self.share:.2%}: first {first} ({reason}); mend or "
                "remove them, or allow more"
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
        except OSError as problem:  # a record is lost, not the run
            _logger.warning("bad record %s not logged: %s", fields, problem)


def read_bad_records(folder: Path) -> list[dict[str, Any]]:
    """What a run folder's log of bad records holds."""
    path = Path(folder) / BAD_RECORDS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
