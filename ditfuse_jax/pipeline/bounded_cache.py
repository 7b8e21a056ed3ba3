"""A cache of what was used last, bounded by a cost such as bytes."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

_V = TypeVar("_V")


class _Entry:
    """A value, or the lock of the thread that loads it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cost = 0
        self.loaded = False
        self.value: Any = None


class BoundedCache(Generic[_V]):
    """Values by key; threads that ask for the same key wait for one load.

    The values used longest ago are dropped when the sum of costs exceeds the limit, except for the
    last one.  A failed load leaves nothing behind.
    """

    def __init__(self, limit: int, cost: Callable[[_V], int] = lambda _: 1):
        """Creates an empty cache.

        Args:
          limit: of the sum of the values' costs.
          cost: of a value, e.g. its bytes; by default 1, so that `limit` is a number of values.
        """
        self._limit, self._cost = limit, cost
        self._total = 0
        self._entries: dict[Hashable, _Entry] = {}  # the one used last is at the end
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], _V]) -> _V:
        """Returns the value of a key; `load` makes it if it is not there."""
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
        with entry.lock:
            if not entry.loaded:
                try:
                    entry.value = load()
                except BaseException:
                    with self._lock:
                        if self._entries.get(key) is entry:
                            del self._entries[key]
                    raise
                self._add(key, entry)
            return entry.value

    def __len__(self) -> int:
        """The number of values."""
        return sum(entry.loaded for entry in self._entries.values())

    def _add(self, key: Hashable, entry: _Entry) -> None:
        cost = self._cost(entry.value)
        with self._lock:
            # Together with the total: another thread may drop the entry as soon as it is loaded.
            entry.cost, entry.loaded = cost, True
            if self._entries.get(key) is not entry:  # dropped while it was loaded
                return
            self._total += entry.cost
            for old, other in list(self._entries.items()):
                if self._total <= self._limit:
                    break
                if other.loaded and old != key:
                    self._total -= other.cost
                    del self._entries[old]
