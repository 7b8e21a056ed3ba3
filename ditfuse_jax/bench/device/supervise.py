"""Runs the measurements in worker processes, within a time, whatever happens in them."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ditfuse_jax.bench.device.plan import Task
from ditfuse_jax.bench.device.results import FAILED, SKIPPED, Results
from ditfuse_jax.files import CACHE_VARIABLE, compilation_cache

LOG = "worker.log"
# JAX's default is three quarters of a GPU's memory, less than full training needs.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
# A measurement that takes more than this multiple of its estimate is ended.
_PATIENCE = 4.0
# Seconds for a worker to start; a first start reads libraries from a cold disk.
_START = 60.0


class WorkerLost(Exception):
    """The worker ended or did not answer; the message says which."""


class Worker:
    """A worker process of one kind, ended on leaving the context."""

    def __init__(self, kind: str, small: bool, log: BinaryIO, command: Sequence[str] = ()):
        self.kind = kind
        reading, writing = os.pipe()
        words = list(command) or [sys.executable, "-m", "ditfuse_jax.bench.device.worker"]
        words += ["--kind", kind, "--answers", str(writing), *(["--small"] if small else [])]
        environment = {CACHE_VARIABLE: str(compilation_cache()), **_ENVIRONMENT, **os.environ}
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            env=environment,
            start_new_session=True,
        )
        os.close(writing)
        self._answers = os.fdopen(reading, "rb", buffering=0)
        self._buffer = b""

    def ask(self, name: str) -> None:
        """Names the next measurement."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says that it has ended
            self._process.stdin.write(f"{name}\n".encode())
            self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any]:
        """Returns the next answer.

        Raises:
          WorkerLost: there is none within these seconds, or the process has ended.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise WorkerLost(f"no result after {seconds:.0f} s")
                read = self._answers.read(65536)
                if not read:
                    code = self._process.wait()
                    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                    raise WorkerLost(f"the process ended with {how}; see {LOG}")
                self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._answers.close()


def supervise(
    tasks: Sequence[Task],
    results: Results,
    deadline: float,
    *,
    small: bool,
    command: Sequence[str] = (),
) -> None:
    """Runs measurements in order and records each at once.

    Args:
      tasks: most important first.
      results: of these tasks.
      deadline: of `time.monotonic`; no measurement runs after it.
      small: use the sizes for a CPU.
      command: of another worker program.
    """
    worker: Worker | None = None
    with contextlib.ExitStack() as stack, _log(results.folder) as log:
        stack.callback(lambda: worker and worker.close())
        for task in tasks:
            left = deadline - time.monotonic()
            needed = task.estimate / 10 if small else task.estimate
            if left < needed:
                note = f"not started: takes about {needed:.0f} s, {max(left, 0):.0f} s were left"
                results.finish(task.name, SKIPPED, note=note)
                continue
            results.start(task.name)
            started = time.monotonic()
            try:
                if worker and worker.kind != task.worker:
                    worker.close()
                    worker = None
                if worker is None:
                    worker = Worker(task.worker, small, log, command)
                    hello = worker.answer(min(left, _START))
                    results.facts |= hello["facts"]
                worker.ask(task.name)
                left = deadline - time.monotonic()
                found = worker.answer(min(left, _PATIENCE * max(task.estimate, 10.0)))
            except WorkerLost as error:
                found: dict[str, Any] = {"status": FAILED, "note": str(error)}
                if worker:
                    worker.close()
                    worker = None
            results.finish(
                task.name,
                found["status"],
                found.get("values"),
                found.get("note", ""),
                time.monotonic() - started,
            )


def _log(folder: Path) -> BinaryIO:
    return (folder / LOG).open("ab")
