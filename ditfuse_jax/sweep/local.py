"""Running a sweep on this machine: some trainings at a time, each a process of its own."""

import dataclasses
import functools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import tqdm

from ditfuse_jax.files import make_folder
from ditfuse_jax.sweep.plan import Plan, Run, Training

# How the command is called; tests put another program here.
DITFUSE = (sys.executable, "-m", "ditfuse_jax")
_POLL = 0.2  # seconds
_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that could not be done.

    Attributes:
      name: of the run.
      reason: the last line it said.
      log: all it said.
    """

    name: str
    reason: str
    log: Path

    def __str__(self) -> str:
        return f"{self.name}: {self.reason} (see {self.log})"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a sweep went.

    Attributes:
      failures: runs that could not be done.
      stopped: a signal ended it before all was done.
    """

    failures: list[Failure]
    stopped: bool


class _Stopped(Exception):
    """This process was asked to stop."""


def run_plan(plan: Plan, workers: int, *, quiet: bool = False) -> Outcome:
    """Does what is not done yet, `workers` trainings at a time; a failure stops only its own runs.

    Asked to stop (SIGTERM, Ctrl-C), it lets the trainings save and comes back.  The devices of
    CUDA_VISIBLE_DEVICES are shared out among the workers.
    """
    todo = [run for run in plan.runs if run.scores() is None]
    by_training: dict[Training | None, list[Run]] = {}
    for run in todo:
        by_training.setdefault(run.training, []).append(run)
    # Runs of one training are scored one after the other; those of a checkpoint wait for nothing.
    jobs = [(t, runs) for t, runs in by_training.items() if t]
    jobs += [(None, [run]) for run in by_training.get(None, [])]
    if not jobs:
        return Outcome([], False)
    with _Processes() as processes, _Bar(plan, quiet) as bar:
        environments = _shared_devices(workers)

        def work(training: Training | None, runs: Sequence[Run]) -> list[Failure]:
            environment = environments.get()
            try:
                call = functools.partial(processes.run, environment)
                return _do(training, runs, call, bar.say)
            finally:
                environments.put(environment)

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(work, training, runs) for training, runs in jobs]
            while wait(futures, _POLL).not_done:
                bar.update()
        bar.update()
        return Outcome(_failures(futures), processes.stopping.is_set())


def last_line(log: Path) -> str:
    """What a log ends with; progress bars redraw their line by carriage returns."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _failures(futures: Sequence[Future[list[Failure]]]) -> list[Failure]:
    failures = []
    for future in futures:
        error = future.exception()
        if error is None:
            failures += future.result()
        elif not isinstance(error, _Stopped):
            raise error
    return failures


def _do(
    training: Training | None,
    runs: Sequence[Run],
    call: Callable[[Sequence[str], Path], int],
    say: Callable[[str], None],
) -> list[Failure]:
    """Trains unless that is done, then scores the runs."""
    if training and not training.finished():
        log = training.folder / "log.txt"
        started = time.monotonic()
        code = call(training.command, log)
        reason = _reason(code, log) if code else ""
        if not code and not training.finished():
            reason = (
                "it ended without the evaluation of its last step: remove its folder to train again"
            )
        if reason:
            say(f"failed: {Failure(training.name, reason, log)}")
            return [Failure(run.name, reason, log) for run in runs]
        say(f"trained {training.name} in {time.monotonic() - started:.0f} s")
    failures = []
    for run in runs:
        if run.scores() is None:
            log = run.folder / "log.txt"
            run.unscored()
            if code := call(run.scoring, log):
                failures.append(Failure(run.name, _reason(code, log), log))
                say(f"failed: {failures[-1]}")
                continue
            run.scored()
        scores = ", ".join(f"{k} {v:.4g}" for k, v in list((run.scores() or {}).items())[:3])
        say(f"{run.name}: {scores}")
    return failures


def _reason(code: int, log: Path) -> str:
    return f"killed by signal {-code}" if code < 0 else last_line(log)


class _Processes:
    """The children, which are asked to stop when this process is."""

    def __init__(self):
        self.stopping = threading.Event()
        self._children: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Processes":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, environment: Mapping[str, str], words: Sequence[str], log: Path) -> int:
        """Runs `ditfuse WORDS`, appending what it says to a log; returns its exit code."""
        make_folder(log.parent)
        with log.open("ab") as file:
            with self._lock:
                if self.stopping.is_set():
                    raise _Stopped
                # A session of its own: Ctrl-C reaches it through us, once.
                child = subprocess.Popen(
                    [*DITFUSE, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
                self._children.add(child)
            if self.stopping.is_set():  # asked between the question and the list of children
                child.terminate()
            code = child.wait()
        with self._lock:
            self._children.discard(child)
        if self.stopping.is_set() and code:
            raise _Stopped
        return code

    def _stop(self, number: int, frame: object) -> None:
        # No lock: the handler runs in the main thread, which never holds it.
        self.stopping.set()
        for child in tuple(self._children):
            child.terminate()


class _Bar:
    """One bar over the steps of all trainings, and lines above it."""

    def __init__(self, plan: Plan, quiet: bool):
        self._trainings, self._quiet = plan.trainings, quiet
        self._done: dict[Training, int] = {}
        self._last = 0.0
        self._bar = tqdm.tqdm(
            total=sum(training.steps for training in self._trainings) or None,
            unit="step",
            dynamic_ncols=True,
            disable=quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        if not self._quiet:
            tqdm.tqdm.write(text, file=sys.stderr)

    def update(self) -> None:
        """Reads how far the trainings are, now and then."""
        if self._bar.disable or time.monotonic() - self._last < 2:
            return
        self._last = time.monotonic()
        for training in self._trainings:
            if self._done.get(training) != training.steps:
                steps = [int(record["step"]) for record in training.records()]
                self._done[training] = max(steps, default=0)
        self._bar.update(sum(self._done.values()) - self._bar.n)


def _shared_devices(workers: int) -> "queue.SimpleQueue[dict[str, str]]":
    """An environment for each worker."""
    devices = [device for device in os.environ.get(_DEVICES, "").split(",") if device]
    environments: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for worker in range(workers):
        changed = {}
        if len(devices) >= workers:
            share = len(devices) // workers
            changed = {_DEVICES: ",".join(devices[worker * share : (worker + 1) * share])}
        environments.put({**os.environ, **changed})
    return environments
