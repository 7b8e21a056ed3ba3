"""JAX's own cache of compiled programs, turned off for a while."""

import threading

import jax
from jax.experimental.compilation_cache import compilation_cache


class WithoutJaxCache:
    """A context in which JAX's cache is off, for all threads, as long as any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = jax.config.values["jax_enable_compilation_cache"]
                self._turn(False)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._turn(self._before)

    def _turn(self, on: bool) -> None:
        if self._before:
            jax.config.update("jax_enable_compilation_cache", on)
            compilation_cache.reset_cache()  # it remembers whether it is on


WITHOUT_JAX_CACHE = WithoutJaxCache()
