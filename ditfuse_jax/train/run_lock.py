"""The lock of a run folder: only one training at a time writes to it.

`lock/000007.json` in the run folder describes its seventh owner; the file with the highest number
is the present owner's.  A process becomes the owner by creating the next number, which only one can
do.  Only its owner changes a file, and nobody removes the newest: a process that was suspended and
goes on later cannot damage the lock of the one that took over.

An owner is gone if

* it released the lock at its end,
* it ran on this machine, and the machine has no such process any more (the start of the process is
  compared as well: numbers of processes are reused), or
* its file stayed the same for `EXPIRES_AFTER` seconds while this process watched it.  The owner
  rewrites it every `RENEW_EVERY` seconds.  No clocks of different machines are compared.
"""

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import create_exclusively, list_folder, make_folder, write_text

FOLDER = "lock"

# Seconds.
RENEW_EVERY = 15.0
EXPIRES_AFTER = 60.0
RELEASE_WITHIN = 10.0
_POLL_EVERY = 1.0

# Locks that this process holds: another one with its process id is of a program it replaced.
_held: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that owns or owned a run folder.

    Attributes:
      host: its name.
      process: its id.
      started: when it took the lock, local time with the zone.
      machine: see `machine`; empty if unknown.
      process_start: see `process_start`; empty if unknown.
      token: unique.
      renewals: how often it has rewritten its file.
      released: whether it has ended.
      failure: the error that it ended with, in one line; empty for none.
    """

    host: str
    process: int
    started: str
    machine: str
    process_start: str
    token: str
    renewals: int = 0
    released: bool = False
    failure: str = ""

    @classmethod
    def current(cls) -> "Owner":
        """Describes this process."""
        return cls(
            host=socket.gethostname(),
            process=os.getpid(),
            started=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            machine=machine(),
            process_start=process_start(os.getpid()) or "",
            token=uuid.uuid4().hex,
        )

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, started {self.started}"

    def is_running(self) -> bool | None:
        """Returns whether the process exists; None if this cannot be known here."""
        if self.released:
            return False
        if not self.machine or self.machine != machine():
            return None
        if self.process == os.getpid():
            return self.token in _held
        start = process_start(self.process)
        return None if start is None else start == self.process_start


def machine() -> str:
    """Returns what identifies the processes that can be seen here: boot and PID namespace.

    Containers on one machine may have the same host name and the same process ids, and do not see
    each other's processes.  Empty without Linux's `/proc`.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(process: int) -> str | None:
    """Returns the start of a process of this machine, in clock ticks after the boot.

    Empty if there is no such process or if it has ended and its parent has not noticed yet; None if
    it cannot be known.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        try:
            os.kill(process, 0)  # sends no signal
        except ProcessLookupError:
            return ""
        except OSError:
            pass
        return None  # of another user, whose processes are hidden
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return "" if state in "ZX" else fields[18]


class RunLock:
    """The lock of a run folder, held by this process until `release`."""

    def __init__(self, folder: Path, number: int, owner: Owner):
        """Starts to renew the lock; see `acquire`."""
        self.number = number
        self._folder, self._owner = folder, owner
        self._successor: Owner | None = None
        self._failure = ""
        self._renewed = _now()
        self._renewing, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ditfuse-lock")
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process is known to have taken over."""
        return self._successor is not None

    def check(self) -> None:
        """Checks that the folder is still this process's; call it before writing there.

        It costs nothing while the thread renews the lock in time.

        Raises:
          UserError: another process took over, because this one did not renew the lock in time.
        """
        late = _now() - self._renewed > EXPIRES_AFTER - RENEW_EVERY
        # If the thread waits for the storage, training does not: it cannot write there either.
        if late and self._renewing.acquire(blocking=False):
            try:
                self._try_to_renew()
            finally:
                self._renewing.release()
        if self._successor:
            raise UserError(
                f"{self._folder.parent} has another owner now: {self._successor}; this process did "
                f"not renew its lock for more than {EXPIRES_AFTER:.0f} s and writes nothing more"
            )

    def release(self, failure: str = "") -> None:
        """Lets the next process have the folder at once.

        Args:
          failure: the error that the training ended with, in one line; empty for none.
        """
        self._failure = failure
        self._ended.set()
        self._thread.join(RELEASE_WITHIN)  # not for ever, if the storage does not answer
        _held.discard(self._owner.token)

    def _run(self) -> None:
        while not self._ended.wait(RENEW_EVERY):
            with self._renewing:
                self._try_to_renew()
        with self._renewing:
            if not self.lost:
                self._try_to_renew(released=True)

    def _try_to_renew(self, *, released: bool = False) -> None:
        """Renews the lock unless there is a successor; a failure of the storage is ignored.

        Nobody can take over either while the storage fails.
        """
        before = _now()
        with contextlib.suppress(UserError, OSError):
            self._successor = self._find_successor()
            if self._successor is None:
                self._owner = dataclasses.replace(
                    self._owner,
                    renewals=self._owner.renewals + 1,
                    released=released,
                    failure=self._failure,
                )
                write_text(_file(self._folder, self.number), _to_json(self._owner))
                self._renewed = before

    def _find_successor(self) -> Owner | None:
        make_folder(self._folder)  # somebody may have removed it
        newest = max(self.number, _newest(self._folder))
        found = _read(_file(self._folder, newest))
        if newest > self.number:
            return found or _UNKNOWN
        return found if found and found.token != self._owner.token else None


def acquire(run: Path, say: Callable[[str], None]) -> RunLock:
    """Makes this process the owner of a run folder.

    Args:
      run: the folder, which exists.
      say: prints a line while this process waits for an owner that may be gone: up to
        `EXPIRES_AFTER` seconds after its last sign.

    Raises:
      UserError: another process owns it, or the folder cannot be written.
    """
    folder = run / FOLDER
    make_folder(folder)
    watch = _Watch(say)
    while True:
        number = _newest(folder)
        owner = (_read(_file(folder, number)) or _UNKNOWN) if number else _NOBODY
        running = owner.is_running()
        if running is None:
            running = watch.is_running(run, number, owner)
        if running:
            raise UserError(
                f"{run} is in use by {owner}: wait until it ends, or choose another --workdir"
            )
        if running is False:
            current = Owner.current()
            _held.add(current.token)  # before another thread of this process can see the file
            created = False
            try:
                created = create_exclusively(_file(folder, number + 1), _to_json(current).encode())
            finally:
                if not created:
                    _held.discard(current.token)
            if created and _newest(folder) == number + 1:
                _remove_older(folder, number)
                return RunLock(folder, number + 1, current)
            # Another process was faster: it has this number, or it had it before this process
            # created it again.  Such a file is older than the newest and removed by the next owner.
            _held.discard(current.token)
        time.sleep(_POLL_EVERY)


def last_owner(run: Path) -> tuple[Path, Owner | None] | None:
    """Finds the present or last owner of a run folder, without waiting or writing.

    Args:
      run: the folder.

    Returns:
      The owner's file and the owner, None instead of one that is damaged; None if there is no file.

    Raises:
      OSError: the folder cannot be listed.
    """
    folder = run / FOLDER
    number = _newest(folder)
    path = _file(folder, number)
    return (path, _read(path)) if number else None


# In place of an owner whose file cannot be read, and of the first one's predecessor.
_UNKNOWN = Owner("an unknown host", 0, "at an unknown time", "", "", "")
_NOBODY = dataclasses.replace(_UNKNOWN, released=True)


class _Watch:
    """Watches the file of an owner whose process cannot be seen from here."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._seen: tuple[int, Owner] | None = None
        self._start = self._changed = self._looked = 0.0
        self._renewed = False

    def is_running(self, run: Path, number: int, owner: Owner) -> bool | None:
        """Returns whether the owner renews its lock; None before this is known."""
        now = _now()
        if self._seen is None:
            self._say(
                f"{run} is or was in use by {owner}: waiting up to {EXPIRES_AFTER:.0f} s for a "
                "sign that it still runs"
            )
            self._seen, self._start, self._changed = (number, owner), now, now
        elif self._seen != (number, owner) and owner != _UNKNOWN:
            self._seen, self._changed, self._renewed = (number, owner), now, True
        elif now - self._looked > EXPIRES_AFTER / 2:
            # This process was suspended or the storage did not answer: the same may be true of
            # the owner.
            self._start = self._changed = now
        self._looked = now
        if now - self._changed > EXPIRES_AFTER:
            return False
        # Long enough for one that was told to stop and is still saving.
        if self._renewed and now - self._start > EXPIRES_AFTER:
            return True if now - self._changed < 2 * RENEW_EVERY else None
        return None


def _now() -> float:
    """Returns seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"


def _newest(folder: Path) -> int:
    """Returns the highest number; 0 if there is none."""
    names = (path.name.removesuffix(".json") for path in list_folder(folder))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _read(path: Path) -> Owner | None:
    """Reads an owner; None if the file is missing or damaged."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Owner)}  # later versions may add some
        return Owner(**{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _remove_older(folder: Path, number: int) -> None:
    """Removes the files of earlier owners, up to a number."""
    for path in list_folder(folder):
        name = path.name.removesuffix(".json")
        if name.isdigit() and int(name) <= number:
            path.unlink(missing_ok=True)


def _to_json(owner: Owner) -> str:
    return json.dumps(dataclasses.asdict(owner), indent=2) + "\n"
