"""Iterating in a thread, some items ahead of the consumer."""

import collections
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ditfuse_jax.compat import with_settings_of_this_thread

_Item = TypeVar("_Item")
_END = object()


def iterate_ahead(items: Iterable[_Item], count: int, name: str) -> Iterator[_Item]:
    """Yields the items in order, while a thread produces those that come next.

    The thread has the contexts of JAX, such as `jax.default_device`, in which the consumer asked
    for the first item.

    An error of `items` is raised here in its place, after all items before it.  When the consumer
    stops, by an error of its own or by Ctrl-C, the thread closes `items` after the one that it is
    producing, and ends; nobody waits for that.

    Args:
      items: iterated in the thread only.
      count: of items that are produced or wait, 1 or more, besides the one that was yielded.
      name: of the thread.
    """
    source = iter(items)
    produce = with_settings_of_this_thread(next)
    threads = ThreadPoolExecutor(1, thread_name_prefix=f"ditfuse-{name}")
    waiting: collections.deque[Future[Any]] = collections.deque()
    try:
        while True:
            while len(waiting) < count:
                waiting.append(threads.submit(produce, source, _END))
            item = waiting.popleft().result()
            if item is _END:
                return
            waiting.append(threads.submit(produce, source, _END))
            yield item
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(source, Generator):
            threads.submit(source.close)
        threads.shutdown(wait=False)


def one_ahead(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yields the items in order, each after the next one was produced.

    Of items that are computed in the background, one is computed while the consumer waits for the
    one before.  An error of `items` is raised after all items before it.
    """
    source = iter(items)
    item = next(source, _END)
    while item is not _END:
        following, failure = _END, None
        try:
            following = next(source, _END)
        except Exception as error:
            failure = error
        yield item  # pyright: ignore
        if failure is not None:
            raise failure
        item = following
