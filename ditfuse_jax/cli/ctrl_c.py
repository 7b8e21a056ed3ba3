"""Ctrl-C ends a command at any moment, also while modules are imported or programs compiled."""

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from ditfuse_jax.errors import EXIT_INTERRUPTED
from ditfuse_jax.process_exit import exit_now

_PATIENCE = 5.0  # seconds for a command to end by itself


class CtrlC:
    """Handles SIGINT for the command of a process.

    The first one raises `KeyboardInterrupt`, so that a command can clean up.  Python drops the
    exception in destructors and in callbacks of the garbage collector, which JAX has, and libraries
    may catch it: the process is then ended at once or after a few seconds, and by a second Ctrl-C.
    It never ends normally, since threads that compile would crash.
    """

    def __init__(self, command: str):
        """Starts to handle it; `command` is what the message begins with."""
        self._command = command
        self._pressed = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._receive)

    def end(self) -> NoReturn:
        """Says that the command was interrupted and ends the process."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"{self._command}: interrupted", file=sys.stderr)
        exit_now(EXIT_INTERRUPTED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._pressed:
            self.end()
        self._pressed = True
        before = sys.unraisablehook

        def dropped(failure: Any) -> None:
            if issubclass(failure.exc_type, KeyboardInterrupt):
                self.end()
            before(failure)

        sys.unraisablehook = dropped
        timer = threading.Timer(_PATIENCE, self.end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt
