"""A page in the browser that a server shows beside its routes; `ditfuse_jax.app` makes one."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.prepared import Prepared
from ditfuse_jax.serve.guard import App

Run = Callable[[Prepared], Fused]  # fuses one stack


@dataclasses.dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      app: its ASGI application.
      lifespan: returns what must be open while it runs.
    """

    app: App
    lifespan: Callable[[], AbstractAsyncContextManager]


class MakePage(Protocol):
    """Makes the page of a model."""

    def __call__(self, fuser: Fuser, key: str, run: Run, together: int = 1) -> Page:
        """Returns the page.

        Args:
          fuser: prepares what is fused.
          key: password that visitors must give; "" for none.
          run: fuses; called in several threads if `together` is above 1.
          together: most stacks that are fused at the same time.
        """
        ...
