"""What tensorstore does not tell: that it repeats requests, or waits for answers."""

import threading
import time
from collections.abc import Callable

from ditfuse_jax.storage.retries import SLOW_SECONDS, report

_RETRIES = "/tensorstore/kvstore/gcs/retries"
_STARTED, _COMPLETED = "/tensorstore/http/request_started", "/tensorstore/http/request_completed"
_POLL_SECONDS = 1.0


def watch(where: str, is_busy: Callable[[], bool]) -> None:
    """Reports an outage that tensorstore meets, from a thread that ends with the work.

    Args:
      where: the folder that is written, for the message.
      is_busy: returns whether the work goes on.
    """
    threading.Thread(
        target=_watch, args=(where, is_busy), name="tensorstore-watch", daemon=True
    ).start()


def _watch(where: str, is_busy: Callable[[], bool]) -> None:
    before, answered, since = _count(_RETRIES), _count(_COMPLETED), time.monotonic()
    while is_busy():
        time.sleep(_POLL_SECONDS)
        if _count(_RETRIES) > before:
            report(where, "requests fail and are repeated, nothing is lost")
            return
        completed = _count(_COMPLETED)
        if completed > answered or _count(_STARTED) == completed:
            answered, since = completed, time.monotonic()
        elif time.monotonic() - since >= SLOW_SECONDS:
            report(where, f"no answer for {SLOW_SECONDS:.0f} s; waiting, nothing is lost")
            return


def _count(metric: str) -> int:
    import tensorstore

    found = tensorstore.experimental_collect_matching_metrics(metric)
    return sum(value.get("value", 0) for each in found for value in each["values"])
