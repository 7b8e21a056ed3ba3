"""Requests to object stores that are repeated while the store does not answer.

Checkpoints are written by tensorstore, which repeats its own requests; these are all others.
"""

import asyncio
import errno
import math
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tqdm

from ditfuse_jax.errors import TemporaryError, UserError, one_line

_T = TypeVar("_T")

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 16.0
# A request without an answer for so long is reported, and after the second time repeated.
SLOW_SECONDS, TIMEOUT_SECONDS = 10.0, 120.0
# An outage of a bucket is one line, however many requests it meets.
_REPORT_EVERY = 300.0

_last_reports: dict[str, float] = {}  # a time by address of the bucket


def _retry_seconds(name: str = "DITFUSE_STORAGE_RETRY_SECONDS") -> float:
    given = os.environ.get(name, "600")
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise UserError(f"{name}={given}: give a number of seconds, e.g. 600")
    return seconds


# For how long a request is repeated; tensorstore's own limit is of the same order.
RETRY_SECONDS = _retry_seconds()


class StorageError(UserError, OSError):
    """A store that does not answer, or refuses; a missing object is a `FileNotFoundError`."""

    def __init__(self, number: int, reason: str, where: str):
        """Creates an error of `errno` `number`; `where` is the object or store."""
        OSError.__init__(self, number, reason, where)

    def __str__(self) -> str:
        return one_line(f"{self.filename}: {self.strerror}")

    def __reduce__(self):
        return type(self), (self.errno, self.strerror, self.filename)


class StoreUnavailable(StorageError, TemporaryError):
    """A store that did not answer for `RETRY_SECONDS`."""


async def repeat(
    call: Callable[[], Awaitable[_T]], is_transient: Callable[[Exception], bool], where: str
) -> _T:
    """Makes a request, again and again while it fails for a reason that passes.

    Args:
      call: makes the request.
      is_transient: returns whether the request that raised this error may succeed later.
      where: the store or object, for messages.

    Raises:
      StoreUnavailable: it failed for `RETRY_SECONDS`.
      Exception: whatever the request raised that is not transient.
    """
    end, delay = time.monotonic() + RETRY_SECONDS, _FIRST_DELAY
    while True:
        try:
            return await _reporting_delay(call(), where)
        except Exception as error:
            if not is_transient(error):
                raise
            reason = describe(error)
            if time.monotonic() + delay > end:
                raise StoreUnavailable(
                    errno.EIO, f"the store failed for {RETRY_SECONDS:.0f} s ({reason})", where
                ) from error
            text = f"{reason}; repeated for up to {RETRY_SECONDS:.0f} s, nothing is lost"
            report(where, text)
        await asyncio.sleep(delay * random.uniform(0.75, 1.25))
        delay = min(2 * delay, _LONGEST_DELAY)


async def _reporting_delay(request: Awaitable[_T], where: str) -> _T:
    task = asyncio.ensure_future(request)
    try:
        done, _ = await asyncio.wait({task}, timeout=SLOW_SECONDS)
        if not done:
            report(where, f"no answer for {SLOW_SECONDS:.0f} s; waiting, nothing is lost")
        return await task
    finally:
        task.cancel()


def report(where: str, text: str) -> None:
    """Prints a line about an outage, unless one of its bucket was printed in the last minutes.

    Args:
      where: the store or object.
      text: what happens there.
    """
    bucket = "/".join(where.split("/", 3)[:3])
    now = time.monotonic()
    if now - _last_reports.get(bucket, -math.inf) >= _REPORT_EVERY:
        _last_reports[bucket] = now
        tqdm.tqdm.write(f"storage: {where}: {text}", file=sys.stderr)  # above a progress bar


def describe(error: BaseException) -> str:
    """Returns an error of a store in a few words, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if text.startswith("Forbidden: "):  # gcsfs; a URL follows, and on the next line the reason
        text = text.partition("\n")[2] or "no permission"
    return " ".join(text.split())[:200]
