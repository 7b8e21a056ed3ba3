"""Runs a sweep on this machine: several trainings at a time, each in its own process."""

import contextlib
import dataclasses
import functools
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

import tqdm

from ditfuse_jax.files import make_folder, write_bytes
from ditfuse_jax.paths import is_remote
from ditfuse_jax.sweep.plan import SweepPlan, Training, Trial

# The command; tests replace it by another program.
DITFUSE = (sys.executable, "-m", "ditfuse_jax")
_POLL = 0.2  # seconds
_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclasses.dataclass(frozen=True)
class TrialFailure:
    """A trial that failed.

    Attributes:
      name: of the trial.
      reason: the last line of its output.
      log: file with all of its output.
    """

    name: str
    reason: str
    log: Path

    def __str__(self) -> str:
        return f"{self.name}: {self.reason} (see {self.log})"


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """The outcome of running a sweep.

    Attributes:
      failures: trials that failed.
      stopped: whether a signal ended it before all trials were done.
    """

    failures: list[TrialFailure]
    stopped: bool


class _Stopped(Exception):
    """This process received a signal to stop."""


def run_plan(plan: SweepPlan, workers: int, *, quiet: bool = False) -> SweepResult:
    """Runs the trials that are not done, `workers` at a time; others continue after a failure.

    On SIGTERM and Ctrl-C the trainings save and the function returns.  The devices of
    CUDA_VISIBLE_DEVICES are divided among the workers.
    """
    remaining = [trial for trial in plan.trials if trial.scores() is None]
    by_training: dict[Training | None, list[Trial]] = {}
    for trial in remaining:
        by_training.setdefault(trial.training, []).append(trial)
    # Trials of one training are evaluated one after the other; those of a checkpoint in parallel.
    jobs = [(t, trials) for t, trials in by_training.items() if t]
    jobs += [(None, [trial]) for trial in by_training.get(None, [])]
    if not jobs:
        return SweepResult([], False)
    with _Processes() as processes, _Bar(plan, quiet) as bar:
        environments = _divided_devices(workers)

        def work(training: Training | None, trials: Sequence[Trial]) -> list[TrialFailure]:
            environment = environments.get()
            try:
                call = functools.partial(processes.run, environment)
                return _run_trials(training, trials, call, bar.write)
            finally:
                environments.put(environment)

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(work, training, trials) for training, trials in jobs]
            while wait(futures, _POLL).not_done:
                bar.update()
        bar.update()
        return SweepResult(_failures(futures), processes.stopping.is_set())


def last_line(log: Path) -> str:
    """Returns the last line of a log; progress bars redraw theirs by carriage returns."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "no output")


def _failures(futures: Sequence[Future[list[TrialFailure]]]) -> list[TrialFailure]:
    failures = []
    for future in futures:
        error = future.exception()
        if error is None:
            failures += future.result()
        elif not isinstance(error, _Stopped):
            raise error
    return failures


def _run_trials(
    training: Training | None,
    trials: Sequence[Trial],
    call: Callable[[Sequence[str], Path], int],
    write: Callable[[str], None],
) -> list[TrialFailure]:
    """Trains unless that is done, then evaluates the trials."""
    if training and not training.finished():
        log = training.folder / "log.txt"
        started = time.monotonic()
        code = call(training.command, log)
        reason = _reason(code, log) if code else ""
        if not code and not training.finished():
            missing = "evaluating" if training.gives_scores else "saving"
            reason = f"it ended without {missing} its last step: remove its folder to train again"
        if reason:
            write(f"failed: {TrialFailure(training.name, reason, log)}")
            return [TrialFailure(trial.name, reason, log) for trial in trials]
        write(f"trained {training.name} in {time.monotonic() - started:.0f} s")
    failures = []
    for trial in trials:
        if trial.scores() is None:
            log = trial.folder / "log.txt"
            trial.invalidate_scores()
            if code := call(trial.evaluation, log):
                failures.append(TrialFailure(trial.name, _reason(code, log), log))
                write(f"failed: {failures[-1]}")
                continue
            trial.mark_scored()
        scores = ", ".join(f"{k} {v:.4g}" for k, v in list((trial.scores() or {}).items())[:3])
        write(f"{trial.name}: {scores}")
    return failures


def _reason(code: int, log: Path) -> str:
    return f"killed by signal {-code}" if code < 0 else last_line(log)


class _Processes:
    """Child processes, which are terminated when this process is asked to stop."""

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

    def run(self, environment: Mapping[str, str], arguments: Sequence[str], log: Path) -> int:
        """Runs `ditfuse ARGUMENTS` with its output appended to a log; returns its exit code."""
        make_folder(log.parent)
        with _appending(log) as file:
            with self._lock:
                if self.stopping.is_set():
                    raise _Stopped
                # In a new session, so that Ctrl-C reaches it only through `_stop`.
                child = subprocess.Popen(
                    [*DITFUSE, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
                self._children.add(child)
            if self.stopping.is_set():  # the signal came before the child was added
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


@contextlib.contextmanager
def _appending(log: Path) -> Iterator[IO[bytes]]:
    """Opens a log to be continued by another process; in an object store it appears at the end."""
    if not is_remote(log):
        with log.open("ab") as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        with contextlib.suppress(FileNotFoundError):
            file.write(log.read_bytes())
            file.flush()
        try:
            yield file
        finally:
            file.seek(0)
            write_bytes(log, file.read())


class _Bar:
    """A progress bar over the steps of all trainings, with messages above it."""

    def __init__(self, plan: SweepPlan, quiet: bool):
        self._trainings, self._quiet = plan.trainings, quiet
        self._done: dict[Training, int] = {}
        self._last = 0.0
        self._every = 60.0 if is_remote(plan.folder) else 2.0
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

    def write(self, text: str) -> None:
        if not self._quiet:
            tqdm.tqdm.write(text, file=sys.stderr)

    def update(self) -> None:
        """Reads the trainings' progress, now and then."""
        if self._bar.disable or time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        for training in self._trainings:
            if self._done.get(training) != training.steps:
                steps = [int(record["step"]) for record in training.records()]
                self._done[training] = max(steps, default=0)
        self._bar.update(sum(self._done.values()) - self._bar.n)


def _divided_devices(workers: int) -> "queue.SimpleQueue[dict[str, str]]":
    """Returns an environment for each worker, with its part of the devices."""
    devices = [device for device in os.environ.get(_DEVICES, "").split(",") if device]
    environments: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for worker in range(workers):
        changed = {}
        if len(devices) >= workers:
            share = len(devices) // workers
            changed = {_DEVICES: ",".join(devices[worker * share : (worker + 1) * share])}
        environments.put({**os.environ, **changed})
    return environments
