"""Where metrics go: `metrics.jsonl`, TensorBoard and the console."""

import json
import sys
from collections.abc import Mapping

import tqdm
from tensorboardX import SummaryWriter

from ditfuse_jax.train.run_folder import RunFolder


class MetricsWriter:
    """Appends to a run folder's `metrics.jsonl` and TensorBoard events."""

    def __init__(self, run: RunFolder):
        self._file = run.metrics.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(run.tensorboard))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars for a step; the line is on disk when this returns."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._events.close()


class Console:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, total: int, start: int, batch_size: int, quiet: bool = False):
        self.batch_size = batch_size
        self.quiet = quiet
        self._bar = tqdm.tqdm(
            total=total * batch_size,
            initial=start * batch_size,
            unit="img",
            dynamic_ncols=True,
            disable=quiet,
            # Not a terminal (a log file, CI): a line now and then instead of a redrawn one.
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            smoothing=0.1,
        )

    def step(self, step: int, scalars: Mapping[str, float] | None) -> None:
        """Moves the bar to a step and shows the numbers where there are new ones."""
        if scalars:
            shown = {k: f"{v:.4g}" for k, v in scalars.items() if k in ("loss", "grad_norm")}
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step * self.batch_size - self._bar.n)

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if not self.quiet:
            tqdm.tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
