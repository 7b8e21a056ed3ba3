"""Metrics as JSON lines; `train.metrics_files` reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.appended import Appended, AppendedFile, AppendedParts
from ditfuse_jax.train.writers.background import Background
from ditfuse_jax.train.writers.writer import Writer


class JSONLWriter:
    """Appends a line per call to the metrics of a run."""

    name = "jsonl"

    def __init__(self, file: Appended):
        """Takes the file, which is closed with the writer."""
        self._file = file

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._file.append((json.dumps({"step": step, **scalars}) + "\n").encode())

    def flush(self) -> None:
        """Writes what is only in memory."""
        self._file.flush()

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


def open_jsonl(run: RunFolder, config: Mapping[str, Any]) -> Writer:
    """Opens `metrics.jsonl` of a run folder, or in a bucket the next parts of its `metrics`."""
    del config
    if not is_remote(run.path):
        return JSONLWriter(AppendedFile(run.metrics))

    def part(number: int) -> Path:
        return run.path / run.metrics.stem / f"{run.start:06d}-{number:06d}.jsonl"

    return Background("jsonl", lambda: JSONLWriter(AppendedParts(part, may_write=run.is_owned)))
