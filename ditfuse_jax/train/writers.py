"""Writers of metrics, and the console.

A writer records scalars somewhere.  `train.writers` of a recipe names entries of `WRITERS`; further
writers can be passed to `train`.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import tqdm

from ditfuse_jax.registry import Registry
from ditfuse_jax.train.run_folder import RunFolder


class Writer(Protocol):
    """Records metrics."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of a step, in the main process; a step may be written several times."""
        ...

    def close(self) -> None:
        """Flushes and closes; called at the end of a run, also if it fails."""
        ...


# Name -> factory, which takes the run folder and the resolved config as a plain dict.
WRITERS: Registry[Callable[[RunFolder, Mapping[str, Any]], Writer]] = Registry("writer")


@WRITERS.register("jsonl")
class JSONLWriter:
    """Appends a line per call to `metrics.jsonl` of the run folder."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any]):
        del config
        self._file = run.metrics.open("a", encoding="utf-8")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`; the line is on disk when this returns."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


@WRITERS.register("tensorboard")
class TensorBoardWriter:
    """Writes TensorBoard events to the folder `tensorboard` of the run folder."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        del config
        self._events = SummaryWriter(str(run.tensorboard))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Writer`."""
        self._events.close()


class MultiWriter:
    """Several writers as one."""

    def __init__(self, writers: Iterable[Writer]):
        self._writers = list(writers)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        for writer in self._writers:
            writer.write(step, scalars)

    def close(self) -> None:
        """See `Writer`; a writer that fails does not keep the others open."""
        with contextlib.ExitStack() as stack:
            for writer in reversed(self._writers):
                stack.callback(writer.close)


def make_writers(names: Iterable[str], run: RunFolder, config: Mapping[str, Any]) -> list[Writer]:
    """Builds the writers that a recipe names; if one fails, the others are closed.

    Raises:
      UserError: an unknown name.
    """
    writers = []
    with contextlib.ExitStack() as stack:
        for name in names:
            writer = WRITERS.find(name)(run, config)
            stack.callback(writer.close)
            writers.append(writer)
        stack.pop_all()
    return writers


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
            # In a log file a line now and then instead of one that is redrawn.
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            smoothing=0.1,
        )

    def step(self, step: int, scalars: Mapping[str, float] | None) -> None:
        """Moves the bar to a step and shows its loss and gradient norm, if given."""
        if scalars:
            shown = {k: f"{v:.4g}" for k, v in scalars.items() if k in ("loss", "grad_norm")}
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step * self.batch_size - self._bar.n)

    def print(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if not self.quiet:
            tqdm.tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
