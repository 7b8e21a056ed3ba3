"""A page with the curves of a run, `training.html`: written at evaluations and at the end."""

import importlib
import time
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.files import write_text
from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.background import Background
from ditfuse_jax.train.writers.writer import Writer

FILE = "training.html"
REFRESH = 60  # seconds after which a browser loads the page of a training again
_MOST_RECORDS = 20_000  # beside those of evaluations; then every second one is dropped


class HTMLWriter:
    """Writes `training.html` of a run folder at every evaluation, and at the end."""

    name = "html"

    def __init__(self, run: RunFolder, config: Mapping[str, Any]):
        """Takes the run folder and the resolved config."""
        self._run, self._config = run, config
        self._records: list[dict[str, float]] = []
        self._evaluations: list[dict[str, float]] = []
        for record in read_metrics(run.metrics):
            if record["step"] <= run.step:  # of earlier starts
                self._keep(record)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._keep({**scalars, "step": step})
        if any(name.startswith("eval/") for name in scalars):
            self._write(training=True)

    def flush(self) -> None:
        """Does nothing: the page is written when there is something new."""

    def close(self) -> None:
        """See `Writer`."""
        self._write(training=False)

    def _keep(self, record: Mapping[str, float]) -> None:
        shown = ("step", "loss", "learning_rate", "images_per_second")
        kept = {n: v for n, v in record.items() if n in shown or n.startswith("eval/")}
        if any(name.startswith("eval/") for name in kept):
            self._evaluations.append(kept)
        elif len(kept) > 1:
            self._records.append(kept)
            if len(self._records) > _MOST_RECORDS:
                del self._records[::2]

    def _write(self, *, training: bool) -> None:
        if not self._run.is_owned():
            return
        # By name when it is used: `evaluate` builds on this package.
        module = importlib.import_module("ditfuse_jax.evaluate.reports.run_page")
        page = module.run_page(
            self._run.path.name,
            self._config,
            self._records,
            self._evaluations,
            refresh=REFRESH if training else 0,
            written=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        )
        write_text(self._run.path / FILE, page)


def open_html(run: RunFolder, config: Mapping[str, Any]) -> Writer:
    """Opens the page of a run; in a bucket it is drawn and written by a thread."""
    if is_remote(run.path):
        return Background("html", lambda: HTMLWriter(run, config))
    return HTMLWriter(run, config)
