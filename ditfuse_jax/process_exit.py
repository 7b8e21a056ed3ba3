"""Ends a process whose threads may never return, or whose end would take long."""

import atexit
import contextlib
import multiprocessing
import os
import sys
import threading
from typing import NoReturn


def exit_now(code: int) -> NoReturn:
    """Ends this process and its worker processes at once.

    A normal exit would join all threads, but one of them may be in a read or a collective operation
    that never returns, and others would print errors that have been reported already.
    """
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a full disk, or a reader that is gone
            stream.flush()
    os._exit(code)


def exit_quickly(code: int) -> NoReturn:
    """Ends this process normally, except that memory is not freed piece by piece.

    Freeing the compiled programs, JAX and all modules takes a third of a second, which the system
    does at once.  What was registered to be done at the end is done.  While other threads run that
    are no daemons, the exit is normal, which waits for them.
    """
    others = [thread for thread in threading.enumerate() if not thread.daemon]
    run_registered = getattr(atexit, "_run_exitfuncs", None)  # CPython's own, without a promise
    if others != [threading.main_thread()] or run_registered is None:
        sys.exit(code)
    run_registered()
    exit_now(code)
