"""The routes of the server."""

import asyncio
import base64
import concurrent.futures
import contextlib
import functools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.pairs import MAX_STACK
from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.prepared import Prepared
from ditfuse_jax.serve.batcher import Batcher
from ditfuse_jax.serve.fields import MEDIA_TYPES, Asked, read_edit, read_fuse
from ditfuse_jax.serve.guard import (
    App,
    BodyTooLarge,
    Guard,
    Receive,
    Send,
    error_body,
    too_large,
)
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.pages import Page
from ditfuse_jax.serve.telemetry import Telemetry
from ditfuse_jax.serve.uploads import decode_mask, decode_upload

_LOG = logging.getLogger(__name__)
_IMAGE_FIELDS = ("image", "image[]")
_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 64 << 10
_GONE = "the client has gone"
_POLL_SECONDS = 0.25  # how often it is checked whether a client has gone

Form = tuple[dict[str, list[str]], list[bytes], bytes | None]


class Server:
    """A model behind HTTP."""

    def __init__(self, fuser: Fuser, limits: Limits, *, batch_size: int = 1):
        """Creates the server; `app` runs it.

        Args:
          fuser: the model.
          limits: of a request.
          batch_size: most requests that are fused together.
        """
        self.telemetry = Telemetry()
        self._fuser, self._limits = fuser, limits
        self._batcher = Batcher(fuser, batch_size, self.telemetry.observe_batch)
        self._admitted = 0
        self._last_seconds = 1.0

    def app(self, *, key: str = "", hosts: Sequence[str] = (), page: Page | None = None) -> App:
        """Returns the ASGI application.

        Args:
          key, hosts: see `Guard`; a page asks for the key itself.
          page: what is shown at all other addresses.
        """

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with page.lifespan() if page else contextlib.nullcontext():
                yield
                await asyncio.to_thread(self._batcher.close)

        routes = [
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/v1/models", self._models),
            Route("/v1/fuse", self._fuse, methods=["POST"]),
            Route("/v1/images/edits", self._edit, methods=["POST"]),
        ]
        app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={
            HTTPException: self._http_error,
            Exception: self._bug,
        })  # fmt: skip
        limits = {"request_bytes": self._limits.request_bytes, "hosts": hosts}
        routed = Guard(app, key=key, **limits)
        if page is None:
            return routed
        shown, paths = Guard(page.app, key="", **limits), {route.path for route in routes}

        async def either(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            own = scope["type"] == "lifespan" or path in paths or path.startswith("/v1/")
            await (routed if own else shown)(scope, receive, send)

        return either

    def run(self, prepared: Prepared) -> Fused:
        """Fuses one stack, in a batch with the requests that wait; for threads.

        Raises:
          UserError: it takes too long, or the server stops.
        """
        try:
            future = self._batcher.submit(prepared)
        except RuntimeError as error:
            raise UserError(str(error)) from error
        try:
            return future.result(self._limits.seconds)
        except TimeoutError as error:
            raise UserError(_too_long(self._limits)) from error
        except concurrent.futures.CancelledError as error:
            raise UserError("the server is stopping") from error
        finally:
            future.cancel()

    async def _health(self, request: Request) -> Response:
        alive = self._batcher.alive
        facts = {"status": "ok" if alive else "failed", "model": self._fuser.trained.name}
        return JSONResponse(facts, 200 if alive else 503)

    async def _metrics(self, request: Request) -> Response:
        text, media_type = self.telemetry.text()
        return Response(text, headers={"Content-Type": media_type})

    async def _models(self, request: Request) -> Response:
        model = {"id": self._fuser.trained.name, "object": "model", "owned_by": "ditfuse_jax"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _fuse(self, request: Request) -> Response:
        def read(form: Mapping[str, Sequence[str]]) -> Asked:
            return read_fuse(form, self._limits, self._fuser.sampling)

        return await self._answer(request, read, transparent=False)

    async def _edit(self, request: Request) -> Response:
        read = functools.partial(read_edit, limits=self._limits)
        return await self._answer(request, read, transparent=True)

    async def _answer(
        self, request: Request, read: Callable[..., Asked], *, transparent: bool
    ) -> Response:
        """Answers a request within the limits, and counts it."""
        route, started = request.url.path, time.monotonic()
        try:
            if self._admitted >= self._limits.queue:
                raise HTTPException(
                    429, "the queue is full: try again later", {"Retry-After": self._retry_after()}
                )
            with self._admission():
                async with asyncio.timeout(self._limits.seconds):
                    response = await self._image(request, read, transparent)
        except TimeoutError:
            response = _error(_too_long(self._limits), 504)
        except BodyTooLarge:
            response = _error(too_large(self._limits.request_bytes), 413)
        except UserError as error:
            response = _error(str(error), 400)
        except MemoryError:
            response = _error("the images need more memory than there is", 413)
        except HTTPException as error:
            response = _error(str(error.detail), error.status_code, error.headers)
        except ClientDisconnect:
            response = _error(_GONE, 499)  # counted; nobody reads it
        except Exception:
            _LOG.exception("%s failed", route)
            response = _error("the server failed: its log says why", 500)
        self.telemetry.requests.labels(route, response.status_code).inc()
        if response.status_code == 200:
            self._last_seconds = time.monotonic() - started
            self.telemetry.seconds.observe(self._last_seconds)
        return response

    async def _image(
        self, request: Request, read: Callable[..., Asked], transparent: bool
    ) -> Response:
        texts, files, mask = await _read_form(request)
        asked = read(texts)
        prepared = await asyncio.to_thread(self._prepare, asked, files, mask, transparent)
        del files, mask
        fused = await self._run(request, prepared)
        return await asyncio.to_thread(_response, fused, asked)

    def _prepare(
        self, asked: Asked, files: Sequence[bytes], mask: bytes | None, transparent: bool
    ) -> Prepared:
        pixels = self._limits.pixels
        images = [decode_upload(data, f"image {k}", pixels) for k, data in enumerate(files, 1)]
        if asked.size is not None and images:
            height, width = images[0].samples.values.shape[:2]
            if asked.size != (width, height):
                raise UserError(
                    f"size must be auto or that of the images, {width}x{height}: it is kept"
                )
        arguments: dict[str, Any] = asked.arguments
        if mask is not None:
            if arguments.get("region") is not None:
                raise UserError("a region and a mask: give one of them")
            region = decode_mask(mask, "mask", pixels, transparent=transparent)
            arguments = arguments | {"region": region}
        prepared = self._fuser.prepare(images, **arguments)
        _ = prepared.batch_key  # computed here, in a thread, and kept
        return prepared

    async def _run(self, request: Request, prepared: Prepared) -> Fused:
        """Waits for the fused image; without a client it is dropped."""
        future = asyncio.wrap_future(self._batcher.submit(prepared))
        try:
            while True:
                done, _ = await asyncio.wait([future], timeout=_POLL_SECONDS)
                if done:
                    return future.result()
                if await request.is_disconnected():
                    raise HTTPException(499, _GONE)
        finally:
            future.cancel()

    @contextlib.contextmanager
    def _admission(self):
        self._admitted += 1
        self.telemetry.queue.set(self._admitted)
        try:
            yield
        finally:
            self._admitted -= 1
            self.telemetry.queue.set(self._admitted)

    def _retry_after(self) -> str:
        """Seconds after which a place in the queue is likely free."""
        return str(max(1, min(60, math.ceil(self._last_seconds))))

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error(str(error.detail), error.status_code, error.headers)

    async def _bug(self, request: Request, error: Exception) -> Response:
        _LOG.error("%s failed", request.url.path, exc_info=error)
        return _error("the server failed: its log says why", 500)


async def _read_form(request: Request) -> Form:
    """Returns the texts of a form by field, its images in their order, and its mask.

    Raises:
      UserError: no form, too many parts, or a file in a field for text.
      HTTPException: a damaged form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise UserError("send a form, multipart/form-data, with a field `image` for each image")
    texts: dict[str, list[str]] = {}
    files: list[bytes] = []
    mask = None
    async with request.form(
        max_files=MAX_STACK + 1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    ) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                texts.setdefault(name, []).append(value)
            elif name in _IMAGE_FIELDS:
                files.append(await value.read())
            elif name == "mask" and mask is None:
                mask = await value.read()
            else:
                raise UserError(f"field {name[:80]!r} is no field for a file: use image and mask")
    if set(texts) & {*_IMAGE_FIELDS, "mask"}:
        raise UserError("image and mask must be files, with a file name each")
    return texts, files, mask


def _response(fused: Fused, asked: Asked) -> Response:
    """Encodes the answer, which takes long for large images: not for the event loop."""
    data = fused.encode(asked.suffix)
    if asked.as_file:
        # Headers hold Latin-1 only.
        headers = {"X-Ditfuse-Understood": quote(fused.understood or "")}
        return Response(data, media_type=MEDIA_TYPES[asked.output_format], headers=headers)
    height, width = fused.image.shape[:2]
    return JSONResponse(
        {
            "created": int(time.time()),
            "data": [{"b64_json": base64.b64encode(data).decode()}],
            "size": f"{width}x{height}",
            "output_format": asked.output_format,
            "understood": fused.understood,
            "left_out": fused.left_out,
            "applied": fused.applied,
            "notes": fused.notes,
            "settings": fused.settings,
        }
    )


def _too_long(limits: Limits) -> str:
    return f"the request took more than {limits.seconds:g} seconds"


def _error(message: str, status: int, headers: Mapping[str, Any] | None = None) -> Response:
    content = error_body(message, status)
    return Response(content, status, dict(headers or {}), media_type="application/json")
