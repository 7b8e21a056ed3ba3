"""Last words of a process that JAX aborts, from a thread where no Python can run."""

import contextlib
import os
import shlex
import subprocess


class Guard:
    """A small shell beside this process: prints a line if the process ends without dismissing it.

    So it does when the process is killed, as long as it is not killed too.
    """

    def __init__(self, line: str):
        script = f"read -r word || echo {shlex.quote(line)} >&2"
        # A session of its own: Ctrl-C and the like are not for it.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True, cwd=os.sep
        )

    def dismiss(self) -> None:
        """Ends it without a word."""
        with contextlib.suppress(OSError):
            self._shell.communicate(b"done\n")
