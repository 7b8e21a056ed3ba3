"""Heartbeats between processes: if one fails, all of them exit with an error that names it.

A process that fails leaves the others in a collective operation, on some hardware forever.
Therefore a thread of each process writes a heartbeat with its current activity to the key-value
store of `jax.distributed`, and exits its process if any process has to stop.  Process 0, which
hosts the store, detects missing heartbeats and reports which process the others wait for.
"""

import contextlib
import dataclasses
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import tqdm

from ditfuse_jax import compat
from ditfuse_jax.errors import EXIT_USER_ERROR, UserError
from ditfuse_jax.process_exit import exit_now

# Seconds without a heartbeat after which a process counts as lost.
LOST_AFTER = 60.0

# Seconds of an activity other than training steps after which a process is reported; doubles with
# each report.
NOTICE_AFTER = 60.0

# Exit code of the others if one is lost: the input is not wrong, so the run may be restarted.
EXIT_LOST = 75
EXIT_INTERRUPTED = 130

_PERIOD = 1.0
# Seconds that process 0, whose exit aborts the others, waits for them to read the reason.
_EXIT_GRACE = 10.0

_CONTINUE = "run the same command to continue from the last checkpoint"
_BEATS, _STOPS, _LEFT = "ditfuse/beats/", "ditfuse/stops/", "ditfuse/left/"

# Activities that may wait for other processes; `other` is small computations between steps.
_DONE = "end"
_WAITING = ("step", "other", _DONE)

# Marks of errors, other than JAX's, that the exit of another process may cause.
_CONSEQUENCES = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED")

# What a process is doing, and since when (`time.monotonic()`).
Activity = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class Stop:
    """Reason to exit all processes.

    Attributes:
      code: exit code.
      line: error message.
      lost: index of the lost process, if any.
    """

    code: int
    line: str
    lost: int | None = None


class Heartbeat:
    """Writes this process's heartbeats and reads those of the others, in a thread."""

    def __init__(self, command: str, client: Any, index: int, count: int):
        """Starts the thread.

        Args:
          command: prefix of messages.
          client: the client of `jax.distributed`, whose key-value store is used.
          index: index of this process.
          count: number of processes.
        """
        self.activity: Callable[[], Activity] | None = None
        self.name = f"process {index} of {count} ({socket.gethostname()})"
        self._command, self._client = command, client
        self._index, self._count = index, count
        self._start = time.monotonic()
        self._heard: dict[int, tuple[str, float]] = {}  # last heartbeat, and when
        self._reported: dict[int, tuple[str, float]] = {}  # activity and its seconds
        self._ended, self._leaving = threading.Event(), threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="ditfuse-heartbeat").start()

    def stop(self, stop: Stop) -> NoReturn:
        """Exits all processes."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            text = json.dumps(dataclasses.asdict(stop))
            self._client.key_value_set(f"{_STOPS}{self._index}", text)
        self._leave(stop)

    def wait_for_lost_process(self) -> None:
        """Waits long enough to detect a lost process; the thread then exits this process."""
        time.sleep(LOST_AFTER + 10 * _PERIOD)

    def end(self) -> None:
        """Waits until all processes are done, then stops the thread."""
        # Process 0 may still evaluate for a long time; lost processes are detected meanwhile.
        since = time.monotonic()
        self.activity = lambda: (_DONE, since)
        self._client.wait_at_barrier("ditfuse/done", 7 * 24 * 3600 * 1000)
        self._ended.set()

    def _run(self) -> None:
        number, since = 0, None
        while not self._ended.wait(_PERIOD):
            number += 1
            try:
                stop = self._beat(number)
                since = None
            except jax.errors.JaxRuntimeError as error:
                since = since or time.monotonic()
                reason = str(error).splitlines()[0]
                line = f"process 0 of {self._count} is lost: it does not respond ({reason})"
                silent = time.monotonic() - since > LOST_AFTER
                stop = self._lost(line, 0) if silent else None
            if stop and not self._ended.is_set():
                self._leave(stop)

    def _beat(self, number: int) -> Stop | None:
        """Writes a heartbeat; returns the reason to stop, if any process has one."""
        doing, since = self.activity() if self.activity else ("starting", self._start)
        beat = json.dumps([number, self.name, doing, time.monotonic() - since])
        self._client.key_value_set(f"{_BEATS}{self._index}", beat, allow_overwrite=True)
        stops = self._client.key_value_dir_get(_STOPS)
        if stops:
            return Stop(**json.loads(stops[0][1]))
        return self._check_others() if self._index == 0 else None

    def _check_others(self) -> Stop | None:
        now = time.monotonic()
        busy: dict[int, tuple[str, str, float]] = {}
        for key, beat in self._client.key_value_dir_get(_BEATS):
            index = int(key.rpartition("/")[2])
            if self._heard.get(index, ("", 0.0))[0] != beat:
                self._heard[index] = beat, now
            _, name, doing, seconds = json.loads(beat)
            busy[index] = name, doing, seconds
            silence = now - self._heard[index][1]
            if silence > LOST_AFTER:
                stop = self._lost(f"{name} is lost: no heartbeat for {silence:.0f} s", index)
                text = json.dumps(dataclasses.asdict(stop))
                self._client.key_value_set(f"{_STOPS}{self._index}", text)
                return stop
        if any(doing in _WAITING for _, doing, _ in busy.values()):
            for index, (name, doing, seconds) in busy.items():
                self._report_if_slow(index, name, doing, seconds)
        return None

    def _report_if_slow(self, index: int, name: str, doing: str, seconds: float) -> None:
        before, last = self._reported.get(index, ("", 0.0))
        due = max(NOTICE_AFTER, 2 * last if before == doing and last < seconds else 0.0)
        if doing not in _WAITING and seconds > due:
            self._reported[index] = doing, seconds
            line = f"{self._command}: {name} has been at {doing} for {seconds:.0f} s; others wait"
            tqdm.tqdm.write(line, file=sys.stderr)  # keeps progress bars intact

    def _lost(self, what: str, index: int) -> Stop:
        return Stop(EXIT_LOST, f"{self._command}: error: {what}; {_CONTINUE}", index)

    def _leave(self, stop: Stop) -> NoReturn:
        self._leaving.acquire()  # only the first thread exits the process
        sys.stderr.write(f"\n{stop.line}\n")  # tqdm would draw its bar again
        sys.stderr.flush()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{_LEFT}{self._index}", "")
            deadline = time.monotonic() + _EXIT_GRACE
            others = self._count - (stop.lost is not None)
            while self._index == 0 and time.monotonic() < deadline:
                if len(self._client.key_value_dir_get(_LEFT)) >= others:
                    break
                time.sleep(0.1)
        exit_now(stop.code)


_heartbeat: Heartbeat | None = None


@contextlib.contextmanager
def exit_together(command: str) -> Iterator[None]:
    """Context in which an error or the loss of one process exits all processes.

    Each prints an error that names the process.  A `UserError` exits all processes with code 2, the
    loss of one exits the others with `EXIT_LOST`; the context does not raise.  With a single
    process the context has no effect.

    Args:
      command: prefix of messages, e.g. `ditfuse train`.
    """
    global _heartbeat
    # JAX has no public way to the store; orbax uses the same.
    state = compat.distributed_state()
    if state.client is None or state.num_processes == 1:
        yield
        return
    _heartbeat = heartbeat = Heartbeat(command, state.client, state.process_id, state.num_processes)
    error = f"{command}: error: {heartbeat.name}"
    try:
        yield
        heartbeat.end()
    except KeyboardInterrupt:
        heartbeat.stop(Stop(EXIT_INTERRUPTED, f"{error} was interrupted"))
    except Exception as failure:
        # A failed collective, here or in a checkpoint, may be caused by another process's exit.
        if _may_be_consequence(failure):
            heartbeat.wait_for_lost_process()
        if isinstance(failure, UserError):
            heartbeat.stop(Stop(EXIT_USER_ERROR, f"{error}: {failure}"))
        traceback.print_exc()
        reason = " ".join(str(failure).split())
        heartbeat.stop(Stop(1, f"{error} failed: {type(failure).__name__}: {reason}"))
    finally:
        _heartbeat = None


def report_activity(activity: Callable[[], Activity]) -> None:
    """Sets the function that returns this process's activity; a thread calls it every second."""
    if _heartbeat:
        _heartbeat.activity = activity


def _may_be_consequence(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        if any(mark in str(error) for mark in _CONSEQUENCES):
            return True
        error = error.__cause__ or error.__context__
    return False
