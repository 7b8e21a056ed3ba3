"""The console of a training: a progress bar, and lines that do not disturb it."""

import sys
from collections.abc import Mapping

import tqdm


def write_line(text: str) -> None:
    """Writes a line to standard error without disturbing progress bars."""
    tqdm.tqdm.write(text, file=sys.stderr)


class Console:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, total: int, start: int, batch_size: int, quiet: bool = False):
        self.batch_size = batch_size
        self.quiet = quiet
        self._warned: set[str] = set()
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
            write_line(text)

    def warn_once(self, about: str, text: str) -> None:
        """Prints a line, only the first of those about the same."""
        if about not in self._warned:
            self._warned.add(about)
            self.print(text)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
