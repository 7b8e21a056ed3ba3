"""Runs the server until a signal ends it."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.optional import import_optional
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.serve.guard import LOOPBACK
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.pages import MakePage

KEY_VARIABLE = "DITFUSE_API_KEY"
_WARM_UP_SIDE = 256


def serve(
    model: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    batch_size: int | None = None,
    warm_up: bool = True,
    load: Callable[[], Fuser] | None = None,
    page: AbstractContextManager[MakePage] | None = None,
) -> None:
    """Serves a model over HTTP until SIGTERM or SIGINT: then running requests are finished.

    With the environment variable `DITFUSE_API_KEY`, clients must send its value as `Authorization:
    Bearer KEY`.

    Args:
      model: see `Fuser.load`.
      host: address to listen at; others than this machine's own need the key.
      port: 0 for a free one.
      limits: of a request.
      batch_size: most requests of one size that are fused together, rounded down to a power of two;
        by default 1 on a CPU, 8 on accelerators, times the number of devices.
      warm_up: fuse a grey pair first, so that clients who send two images and the model's own
        settings do not wait for the compiler, if images are cut into tiles.
      load: loads the model instead of `Fuser.load(model)`, on all devices of this process.
      page: makes a page that is shown beside the routes; see `ditfuse_jax.app.page_maker`.  It asks
        for the same key.

    Raises:
      UserError: the extra `serve` is not installed, the address is not free or open without a key,
        the batch size is below 1, or the model cannot be loaded.
    """
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    for module in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        import_optional(module, "serve")
    key, local = access_key(host), host in LOOPBACK
    limits = limits or Limits()
    with bound(host, port) as listener, page or contextlib.nullcontext() as make_page:
        fuser = load() if load else Fuser.load(model, devices=jax.local_devices())
        shared = fuser.trained.partitioner
        devices = shared.data_parallel if shared else 1
        size = _power_of_two(batch_size or devices * _default_batch_size())
        if warm_up:
            grey = np.full((_WARM_UP_SIDE, _WARM_UP_SIDE, 3), 128, np.uint8)
            for rows in (1 << k for k in range(size.bit_length())):
                fuser.run([fuser.prepare([grey, grey])] * rows)
        from ditfuse_jax.serve.http import Server

        hosts = sorted(LOOPBACK) if local else ()
        server = Server(fuser, limits, batch_size=size)
        shown = make_page(fuser, key, server.run, size) if make_page else None
        on = f" on {devices} devices" if devices > 1 else ""
        what = f"serving {fuser.trained.name}{' and its page' if shown else ''}{on} at"
        run_app(server.app(key=key, hosts=hosts, page=shown), listener, limits, what)


def run_app(app: Any, listener: socket.socket, limits: Limits, what: str) -> None:
    """Runs an ASGI application until SIGTERM or SIGINT; then running requests are finished.

    `what`: the start of the line that says where it can be reached.
    """
    import uvicorn

    class Uvicorn(uvicorn.Server):
        """Ends normally after a signal, where uvicorn would raise it again."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.handle_exit)
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(what, url_of(*listener.getsockname()[:2]), flush=True)

    # What clients do wrong stands in their answers; failures of the server are logged in `http`.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
        # Connections beyond those that the queue admits get their refusal; more get status 503.
        limit_concurrency=4 * limits.queue + 64,
    )
    Uvicorn(config).run([listener])


def url_of(address: str, port: int) -> str:
    """Returns what opens a server; of one that listens at every address, by this machine's name."""
    if address in ("0.0.0.0", "::"):
        address = socket.gethostname()
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def access_key(host: str) -> str:
    """Returns the key that requests must have, of the environment variable; empty for none.

    Raises:
      UserError: other machines can reach this address and there is no key.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not key and host not in LOOPBACK:
        raise UserError(
            f"{host} can be reached from other machines: set a key in {KEY_VARIABLE}, or use "
            "127.0.0.1"
        )
    return key


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Takes the address before the model is loaded; connections wait until it is."""
    with contextlib.ExitStack() as held:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = held.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()  # else a second server could bind the address too
        except (OSError, OverflowError, UnicodeError) as error:  # a name that is no host name
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"cannot listen at {host}:{port} ({reason}): choose --host or --port"
            ) from error
        yield listener


def _power_of_two(number: int) -> int:
    """Returns the largest power of two up to `number`: batches have 1, 2, 4, ... rows."""
    return 1 << (number.bit_length() - 1)


def _default_batch_size() -> int:
    return 1 if jax.default_backend() == "cpu" else 8
