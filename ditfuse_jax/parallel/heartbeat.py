"""Heartbeats between processes: if one fails, all of them exit with an error that names it.

A process that fails leaves the others in a collective operation, on some hardware forever.
Therefore a thread of each process writes a heartbeat with its current activity to the key-value
store of `jax.distributed`, and exits its process if any process has to stop.  Process 0, which
hosts the store, detects missing heartbeats and processes that hang, and reports which process the
others wait for.  If a process is lost or hangs, all write their threads' stacks before they exit.
"""

import contextlib
import dataclasses
import faulthandler
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import tqdm

from ditfuse_jax import compat
from ditfuse_jax.errors import EXIT_INTERRUPTED, EXIT_TEMPORARY, UserError, exit_code
from ditfuse_jax.parallel.activity import PROFILE_REQUESTS, Activity
from ditfuse_jax.parallel.slow_processes import StepTimes
from ditfuse_jax.parallel.stacks import write_stacks
from ditfuse_jax.process_exit import exit_now

# Seconds without a heartbeat after which a process counts as lost.
LOST_AFTER = 60.0

# Seconds of an activity other than training steps after which a process is reported; doubles with
# each report.
NOTICE_AFTER = 60.0

# Exit code if a process is lost or hangs: the input is not wrong, so the run may be restarted.
EXIT_LOST = EXIT_TEMPORARY

_PERIOD = 1.0
# Seconds between two heartbeats of a thread after which its process was suspended meanwhile.
_SUSPENDED_AFTER = 5.0
# Seconds that process 0, whose exit aborts the others, waits for them to read the reason and to
# write their stacks.
_EXIT_GRACE = 20.0
# Seconds after which a process that hangs does not rely on process 0 any more.
_OWN_GRACE = 10.0

_CONTINUE = "run the same command to continue from the last checkpoint"
_BEATS, _STOPS, _LEFT = "ditfuse/beats/", "ditfuse/stops/", "ditfuse/left/"
_PROFILES = "ditfuse/profiles/"

# Activities that may wait for other processes; `other` is small computations between steps.
_DONE = "end"
_WAITING = ("step", "other", _DONE)

# Marks of errors, other than JAX's, that the exit of another process may cause.
_CONSEQUENCES = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclasses.dataclass(frozen=True)
class Stop:
    """Reason to exit all processes.

    Attributes:
      code: exit code.
      line: error message.
      lost: index of the lost process, if any.
      stacks: name of the folder in which each process writes its stacks; empty for none.
    """

    code: int
    line: str
    lost: int | None = None
    stacks: str = ""


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
        self.stacks: Path | None = None
        self.hang_timeout = 0.0
        self.name = f"process {index} of {count} ({socket.gethostname()})"
        self._command, self._client = command, client
        self._index, self._count = index, count
        self._start = time.monotonic()
        self._heard: dict[int, tuple[str, float]] = {}  # last heartbeat, and when
        self._reported: dict[int, tuple[str, float]] = {}  # activity and its seconds
        self._step_times, self._published = StepTimes(), 0
        self._last_beat = self._start
        self._suspended = 0.0, 0.0  # start of an activity, and for how long of it
        self._ended, self._leaving = threading.Event(), threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="ditfuse-heartbeat").start()

    def stop(self, stop: Stop) -> NoReturn:
        """Exits all processes."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._publish(stop)
        self._leave(stop)

    def wait_for_lost_process(self) -> None:
        """Waits long enough to detect a lost process; the thread then exits this process."""
        time.sleep(LOST_AFTER + 10 * _PERIOD)

    def end(self) -> None:
        """Waits until all processes are done, then stops the thread."""
        # Process 0 may still evaluate for a long time; lost processes are detected meanwhile.
        since = time.monotonic()
        self.activity = lambda: Activity(_DONE, since)
        self._client.wait_at_barrier("ditfuse/done", 7 * 24 * 3600 * 1000)
        self.stop_thread()

    def stop_thread(self) -> None:
        """Stops the thread without waiting for other processes."""
        self._ended.set()
        if self._count > 1:
            faulthandler.cancel_dump_traceback_later()

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
        if self._count > 1 and sys.__stderr__:
            # Prints the stacks to the log if compiled code holds Python's lock, so that this thread
            # cannot run: before the others give this process up and JAX ends it.
            faulthandler.dump_traceback_later(LOST_AFTER / 2, file=sys.__stderr__)
        now = self.activity() if self.activity else Activity("starting", self._start)
        clock = time.monotonic()
        seconds = self._seconds_awake(now.since, clock)
        beat = json.dumps([number, self.name, now.doing, seconds, clock, now.steps, dict(now.own)])
        self._client.key_value_set(f"{_BEATS}{self._index}", beat, allow_overwrite=True)
        self._exchange_requests()
        stops = self._client.key_value_dir_get(_STOPS)
        if stops:
            return Stop(**json.loads(stops[0][1]))
        if self._index == 0:
            return self._check_others()
        if self._hangs(now.doing, seconds - _OWN_GRACE):
            return self._publish(self._hung(self.name, now.doing, seconds))
        return None

    def _seconds_awake(self, since: float, now: float) -> float:
        """Returns how long an activity has taken without the time the process was suspended.

        Ctrl-Z and `docker pause` stop this thread too, and nothing hangs meanwhile.
        """
        begun, suspended = self._suspended
        if begun != since:
            suspended = 0.0
        gap, self._last_beat = now - self._last_beat - _PERIOD, now
        if gap > _SUSPENDED_AFTER:
            suspended += min(gap, now - since)
        self._suspended = since, suspended
        return now - since - suspended

    def _exchange_requests(self) -> None:
        own, key = PROFILE_REQUESTS.own, f"{_PROFILES}{self._index}"
        if own != self._published:
            self._client.key_value_set(key, str(own), allow_overwrite=True)
            self._published = own
        counts = self._client.key_value_dir_get(_PROFILES)
        PROFILE_REQUESTS.others = sum(int(n) for name, n in counts if not name.endswith(key))

    def _check_others(self) -> Stop | None:
        now = time.monotonic()
        busy: dict[int, tuple[str, str, float]] = {}
        for key, beat in self._client.key_value_dir_get(_BEATS):
            index = int(key.rpartition("/")[2])
            if self._heard.get(index, ("", 0.0))[0] != beat:
                self._heard[index] = beat, now
            _, name, doing, seconds, *times = json.loads(beat)
            busy[index] = name, doing, seconds
            self._step_times.add(index, *times)
            silence = now - self._heard[index][1]
            if silence > LOST_AFTER:
                line = f"{name} is lost: no heartbeat for {silence:.0f} s"
                return self._publish(self._lost(line, index))
        # Activities that wait for other processes come last: they are a consequence.
        ranked = sorted(busy.values(), key=lambda one: (one[1] in _WAITING, -one[2]))
        # The cause may have begun a little later: it gets the time to be the one that is named.
        others_work = any(doing not in (*_WAITING, _DONE) for _, doing, _ in ranked)
        grace = min(_OWN_GRACE, self.hang_timeout) / 2 if others_work else 0.0
        for name, doing, seconds in ranked:
            if self._hangs(doing, seconds - grace * (doing in _WAITING)):
                return self._publish(self._hung(name, doing, seconds))
        if any(doing in _WAITING for _, doing, _ in busy.values()):
            for index, (name, doing, seconds) in busy.items():
                self._report_if_busy(index, name, doing, seconds)
        for slow in self._step_times.find(now):
            self._print(
                f"{busy[slow.index][0]} is slow: it takes {slow.own:.2g} s of its own before each "
                f"step ({slow.reason} {slow.seconds:.2g} s), the others {slow.median:.2g} s"
            )
        return None

    def _report_if_busy(self, index: int, name: str, doing: str, seconds: float) -> None:
        before, last = self._reported.get(index, ("", 0.0))
        due = max(NOTICE_AFTER, 2 * last if before == doing and last < seconds else 0.0)
        if doing not in _WAITING and seconds > due:
            self._reported[index] = doing, seconds
            self._print(f"{name} has been at {doing} for {seconds:.0f} s; others wait")

    def _print(self, text: str) -> None:
        tqdm.tqdm.write(f"{self._command}: {text}", file=sys.stderr)  # keeps progress bars intact

    def _hangs(self, doing: str, seconds: float) -> bool:
        return 0 < self.hang_timeout < seconds and doing != _DONE

    def _hung(self, name: str, doing: str, seconds: float) -> Stop:
        what = f"{name} has been at {doing} for {seconds:.0f} s (train.hang_timeout)"
        return self._with_stacks(what)

    def _publish(self, stop: Stop) -> Stop:
        """Tells the other processes to stop."""
        text = json.dumps(dataclasses.asdict(stop))
        self._client.key_value_set(f"{_STOPS}{self._index}", text, allow_overwrite=True)
        return stop

    def _lost(self, what: str, index: int) -> Stop:
        return self._with_stacks(what, index)

    def _with_stacks(self, what: str, lost: int | None = None) -> Stop:
        """Returns a reason to stop whose cause the stacks of all processes may show."""
        stacks = time.strftime("%Y%m%d-%H%M%S") if self.stacks else ""
        if self.stacks:
            what += f"; the stacks of all threads are in {self.stacks / stacks}"
        return Stop(EXIT_LOST, f"{self._command}: error: {what}; {_CONTINUE}", lost, stacks)

    def _leave(self, stop: Stop) -> NoReturn:
        self._leaving.acquire()  # only the first thread exits the process
        if stop.stacks and self.stacks:
            path = self.stacks / stop.stacks / f"process-{self._index}.txt"
            write_stacks(path, f"{self.name}: {stop.line}")
        # tqdm would draw its bar again, here or in its own thread while this process waits below:
        # the lock is kept.  A timeout, because the thread that hangs may hold it.
        tqdm.tqdm.get_lock().acquire(timeout=_PERIOD)
        sys.stderr.write(f"\n{stop.line}\n")
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


class LocalStore:
    """The key-value store of a single process, with the methods of that of `jax.distributed`."""

    def __init__(self):
        self._values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Sets a value."""
        self._values[key] = value

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        """Returns the keys that begin with a prefix, and their values."""
        return [(key, value) for key, value in self._values.items() if key.startswith(prefix)]


_heartbeat: Heartbeat | None = None


@contextlib.contextmanager
def exit_together(command: str) -> Iterator[None]:
    """Context in which an error or the loss of one process exits all processes.

    Each prints an error that names the process.  A `UserError` exits all processes with its
    `exit_code`, the loss of one exits the others with `EXIT_LOST`, as does a hang (see `watch`);
    the context does not raise.  With a single process it raises errors unchanged, and only a hang
    exits.  SIGUSR1 to one process asks all of them for a profile.

    Args:
      command: prefix of messages, e.g. `ditfuse train`.
    """
    global _heartbeat
    # JAX has no public way to the store; orbax uses the same.
    state = compat.distributed_state()
    if state.client is None or state.num_processes == 1:
        _heartbeat = heartbeat = Heartbeat(command, LocalStore(), 0, 1)
        try:
            with PROFILE_REQUESTS.accepted():
                yield
        finally:
            heartbeat.stop_thread()
            _heartbeat = None
        return
    _heartbeat = heartbeat = Heartbeat(command, state.client, state.process_id, state.num_processes)
    error = f"{command}: error: {heartbeat.name}"
    try:
        with PROFILE_REQUESTS.accepted():
            yield
        heartbeat.end()
    except KeyboardInterrupt:
        heartbeat.stop(Stop(EXIT_INTERRUPTED, f"{error} was interrupted"))
    except Exception as failure:
        # A failed collective, here or in a checkpoint, may be caused by another process's exit.
        if _may_be_consequence(failure):
            heartbeat.wait_for_lost_process()
        if isinstance(failure, UserError):
            heartbeat.stop(Stop(exit_code(failure), f"{error}: {failure}"))
        traceback.print_exc()
        reason = " ".join(str(failure).split())
        heartbeat.stop(Stop(1, f"{error} failed: {type(failure).__name__}: {reason}"))
    finally:
        _heartbeat = None


def watch(
    activity: Callable[[], Activity], stacks: Path | None = None, hang_timeout: float = 0.0
) -> None:
    """Says what this process does, and how long it may.

    Without `exit_together` this has no effect.

    Args:
      activity: returns what the process is doing; a thread calls it every second.
      stacks: folder for the stacks of all threads, if a process hangs or is lost.
      hang_timeout: seconds that one activity may take; 0 for no limit.
    """
    if _heartbeat:
        _heartbeat.activity, _heartbeat.stacks = activity, stacks
        _heartbeat.hang_timeout = hang_timeout


def _may_be_consequence(error: BaseException | None) -> bool:
    while error is not None:
        if "RESOURCE_EXHAUSTED" in str(error):  # the process's own devices are out of memory
            return False
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        if any(mark in str(error) for mark in _CONSEQUENCES):
            return True
        error = error.__cause__ or error.__context__
    return False
