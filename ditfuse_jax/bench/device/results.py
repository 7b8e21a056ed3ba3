"""The results of a run on a device: one JSON file and one Markdown table, complete at any time."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.files import make_folder, write_text

JSON_FILE, TABLE_FILE = "device.json", "device.md"
WAITING, RUNNING, OK, FAILED, SKIPPED = "waiting", "running", "ok", "failed", "skipped"
_COLUMNS = ("measurement", "status", "result", "seconds")


@dataclasses.dataclass
class Result:
    """One measurement.

    Attributes:
      name: of the measurement.
      status: `waiting`, `running`, `ok`, `failed` or `skipped`.
      values: what was measured, by name with units.
      note: why it failed or was skipped.
      seconds: that it took, compilation included.
    """

    name: str
    status: str = WAITING
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0


class Results:
    """Results in order of importance; both files are written again after every change."""

    def __init__(self, folder: Path, names: Sequence[str], facts: Mapping[str, Any]):
        """Creates the folder and writes both files.

        Raises:
          UserError: the folder cannot be written.
        """
        self.folder, self.facts = folder, dict(facts)
        self._results = {name: Result(name) for name in names}
        make_folder(folder)
        self.write()

    def __iter__(self):
        return iter(self._results.values())

    def __getitem__(self, name: str) -> Result:
        return self._results[name]

    def start(self, name: str) -> None:
        self._results[name].status = RUNNING
        self.write()

    def finish(
        self,
        name: str,
        status: str,
        values: Mapping[str, Any] | None = None,
        note: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Records the end of a measurement."""
        self._results[name] = Result(name, status, dict(values or {}), note, seconds)
        self.write()

    def write(self) -> None:
        """Writes both files, each under a temporary name first."""
        written = {"written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        everything = self.facts | written | {"results": [dataclasses.asdict(r) for r in self]}
        write_text(self.folder / JSON_FILE, json.dumps(everything, indent=2) + "\n")
        write_text(self.folder / TABLE_FILE, self.table())

    def table(self) -> str:
        """Returns the results as a Markdown document."""
        lines = ["# Measurements on a device", ""]
        lines += [f"* {name}: {_text(value)}" for name, value in self.facts.items()]
        lines += ["", _row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
        for result in self:
            values = [f"{name} {_text(value)}" for name, value in result.values.items()]
            shown = ", ".join([*values, *([result.note] if result.note else [])])
            seconds = f"{result.seconds:.1f}" if result.seconds else ""
            lines.append(_row((result.name, result.status, shown, seconds)))
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return str(value)
