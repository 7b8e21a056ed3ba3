"""Ends a process whose threads may never return."""

import multiprocessing
import os
import sys
from typing import NoReturn


def exit_now(code: int) -> NoReturn:
    """Ends this process and its worker processes at once.

    A normal exit would join all threads, but one of them may be in a read or a collective operation
    that never returns, and others would print errors that have been reported already.
    """
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
