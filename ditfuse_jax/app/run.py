"""Runs the page until a signal ends it."""

from collections.abc import Callable, Sequence
from typing import Any

from ditfuse_jax.app.equivalents import ModelChoice
from ditfuse_jax.app.host import page_maker
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.serve.guard import LOOPBACK, Guard
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.run import access_key, bound, run_app


def app(
    model: str,
    *,
    adapters: Sequence[str] = (),
    base: str | None = None,
    quantize: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits | None = None,
    load: Callable[[], Fuser] | None = None,
) -> None:
    """Shows the page until SIGTERM or SIGINT.

    It works without a network, sends nothing anywhere, and keeps files in a folder of its own,
    which is deleted at the end.  With the environment variable `DITFUSE_API_KEY`, the page asks for
    the user `ditfuse` and that password.

    Args:
      model: see `Fuser.load`; also what the shown commands name.
      host: address to listen at; others than this machine's own need the key.
      port: 0 for a free one.
      limits: of a request.
      load: loads the model instead of `Fuser.load(model)`.

    Raises:
      UserError: the extra `app` is not installed, the address is not free or open without a key, or
        the model cannot be loaded.
    """
    key, local = access_key(host), host in LOOPBACK
    limits = limits or Limits()
    choice = ModelChoice(model, tuple(adapters), base, quantize)
    with page_maker(choice, limits) as make, bound(host, port) as listener:
        chosen: dict[str, Any] = {"adapters": adapters, "base": base, "quantize": quantize}
        fuser = load() if load else Fuser.load(model, **chosen)
        page = make(fuser, key, lambda prepared: fuser.run([prepared])[0])
        guarded = Guard(
            page.app,
            key="",
            request_bytes=limits.request_bytes,
            hosts=sorted(LOOPBACK) if local else (),
        )
        run_app(guarded, listener, limits, f"{fuser.trained.name}: open")
