"""Several processes end together: what stops one is told by all, and nobody waits for the dead.

A process that fails leaves the others in a collective operation, on some hardware for ever.  So a
thread of each tells the others, through the key-value store of `jax.distributed`, that it lives and
what it is doing, and ends its process when any of them has to stop.  Process 0, which holds the
store, misses those who fall silent and says who keeps the others waiting.
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
from ditfuse_jax.ending import end_now
from ditfuse_jax.errors import EXIT_USER_ERROR, UserError

# Seconds of silence after which a process is lost.
LOST_AFTER = 60.0

# Seconds of anything but training steps after which a process is named; then twice as long, ...
NOTICE_AFTER = 60.0

# Exit code of the others when one is lost: nothing is wrong with the input, so start again.
EXIT_LOST = 75
EXIT_INTERRUPTED = 130

_PERIOD = 1.0
# Seconds that process 0, whose end ends the others, gives them to read why.
_FAREWELL = 10.0

_CONTINUE = "run the same command to continue from the last checkpoint"
_BEATS, _STOPS, _LEFT = "ditfuse/beats/", "ditfuse/stops/", "ditfuse/left/"

# Who does this needs the others to go on; `other` holds small computations between the steps.
_DONE = "end"
_WAITING = ("step", "other", _DONE)

# How the end of another process shows in errors that are not JAX's own.
_ECHOES = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED")

# What a process is doing, and since when (`time.monotonic`).
Activity = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class Stop:
    """Why all end: the exit code, the line to print, and the process that is not there any more."""

    code: int
    line: str
    lost: int | None = None


class Heartbeat:
    """One process's part in watching all."""

    def __init__(self, command: str, client: Any, index: int, count: int):
        """Args:
        command: what messages begin with.
        client: of `jax.distributed`; its key-value store is used.
        index: this process.
        count: all of them.
        """
        self.activity: Callable[[], Activity] | None = None
        self.name = f"process {index} of {count} ({socket.gethostname()})"
        self._command, self._client = command, client
        self._index, self._count = index, count
        self._start = time.monotonic()
        self._heard: dict[int, tuple[str, float]] = {}  # the last beat of each and when it came
        self._named: dict[int, tuple[str, float]] = {}  # doing what, and how long when last named
        self._ended, self._leaving = threading.Event(), threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="ditfuse-watch").start()

    def stop(self, stop: Stop) -> NoReturn:
        """Ends all processes."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            text = json.dumps(dataclasses.asdict(stop))
            self._client.key_value_set(f"{_STOPS}{self._index}", text)
        self._leave(stop)

    def await_verdict(self) -> None:
        """Gives the watch the time to find out who is lost; it then ends this process."""
        time.sleep(LOST_AFTER + 10 * _PERIOD)

    def end(self) -> None:
        """Returns when all processes are done."""
        # Process 0 may still evaluate, for long; who dies meanwhile is missed as ever.
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
                line = f"process 0 of {self._count} is lost, it does not answer ({reason})"
                silent = time.monotonic() - since > LOST_AFTER
                stop = self._lost(line, 0) if silent else None
            if stop and not self._ended.is_set():
                self._leave(stop)

    def _beat(self, number: int) -> Stop | None:
        """Tells the others how it goes here and asks how it goes there."""
        doing, since = self.activity() if self.activity else ("starting", self._start)
        beat = json.dumps([number, self.name, doing, time.monotonic() - since])
        self._client.key_value_set(f"{_BEATS}{self._index}", beat, allow_overwrite=True)
        stops = self._client.key_value_dir_get(_STOPS)
        if stops:
            return Stop(**json.loads(stops[0][1]))
        return self._listen() if self._index == 0 else None

    def _listen(self) -> Stop | None:
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
                stop = self._lost(f"{name} is lost: nothing heard of it for {silence:.0f} s", index)
                text = json.dumps(dataclasses.asdict(stop))
                self._client.key_value_set(f"{_STOPS}{self._index}", text)
                return stop
        if any(doing in _WAITING for _, doing, _ in busy.values()):
            for index, (name, doing, seconds) in busy.items():
                self._name_if_slow(index, name, doing, seconds)
        return None

    def _name_if_slow(self, index: int, name: str, doing: str, seconds: float) -> None:
        before, last = self._named.get(index, ("", 0.0))
        due = max(NOTICE_AFTER, 2 * last if before == doing and last < seconds else 0.0)
        if doing not in _WAITING and seconds > due:
            self._named[index] = doing, seconds
            line = f"{self._command}: {name} has been at {doing} for {seconds:.0f} s; others wait"
            tqdm.tqdm.write(line, file=sys.stderr)  # bars stay whole

    def _lost(self, what: str, index: int) -> Stop:
        return Stop(EXIT_LOST, f"{self._command}: error: {what}; {_CONTINUE}", index)

    def _leave(self, stop: Stop) -> NoReturn:
        self._leaving.acquire()  # the first thread to come here ends the process
        sys.stderr.write(f"\n{stop.line}\n")  # tqdm would draw its bar once more, below
        sys.stderr.flush()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{_LEFT}{self._index}", "")
            deadline = time.monotonic() + _FAREWELL
            others = self._count - (stop.lost is not None)
            while self._index == 0 and time.monotonic() < deadline:
                if len(self._client.key_value_dir_get(_LEFT)) >= others:
                    break
                time.sleep(0.1)
        end_now(stop.code)


_watch: Heartbeat | None = None


@contextlib.contextmanager
def exit_together(command: str) -> Iterator[None]:
    """Inside, an error or the loss of one process ends all of them, each with a line naming it.

    Alone, nothing is added.  Among several, errors do not come out of here: a `UserError` ends all
    processes with exit code 2, the loss of one ends the others with `EXIT_LOST`.

    Args:
      command: what messages begin with, e.g. `ditfuse train`.
    """
    global _watch
    # JAX has no public way to the store; orbax uses the same.
    state = compat.distributed_state()
    if state.client is None or state.num_processes == 1:
        yield
        return
    _watch = watch = Heartbeat(command, state.client, state.process_id, state.num_processes)
    error = f"{command}: error: {watch.name}"
    try:
        yield
        watch.end()
    except KeyboardInterrupt:
        watch.stop(Stop(EXIT_INTERRUPTED, f"{error} was interrupted"))
    except Exception as failure:
        # A broken collective, here or under a checkpoint, is the echo of another process's end.
        if _may_be_an_echo(failure):
            watch.await_verdict()
        if isinstance(failure, UserError):
            watch.stop(Stop(EXIT_USER_ERROR, f"{error}: {failure}"))
        traceback.print_exc()
        reason = " ".join(str(failure).split())
        watch.stop(Stop(1, f"{error} failed: {type(failure).__name__}: {reason}"))
    finally:
        _watch = None


def report_activity(activity: Callable[[], Activity]) -> None:
    """Lets the others know what this process is doing, by a function that may be called anytime."""
    if _watch:
        _watch.activity = activity


def _may_be_an_echo(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        if any(echo in str(error) for echo in _ECHOES):
            return True
        error = error.__cause__ or error.__context__
    return False
