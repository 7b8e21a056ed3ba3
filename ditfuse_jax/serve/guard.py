"""What is checked before a request's body is read: host, origin, key, and length.

An ASGI application around the server's own.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from h11 import LocalProtocolError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN = "/healthz"  # whoever starts the server may ask whether it runs


class BodyTooLarge(Exception):
    """More bytes arrived than a request may have."""


class Guard:
    """Refuses requests for another host, of foreign web pages, without the key, or too long."""

    def __init__(self, app: App, *, key: str, request_bytes: int, hosts: Collection[str] = ()):
        """Wraps an application.

        Args:
          app: the application.
          key: that clients must send as `Authorization: Bearer KEY`; "" for none.
          request_bytes: of a body; more raise `BodyTooLarge` in the application.
          hosts: names that a request may have in its `Host` header, and the web page that sends it
            in `Origin`; none for any.  A server for this machine only is thereby closed to web
            pages: those whose name points to 127.0.0.1, and those that send forms to it.
        """
        self._app, self._key, self._bytes = app, key.encode(), request_bytes
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handles a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
            await _refuse(send, 421, "this server answers requests to this machine only")
        elif self._hosts and not self._is_own(headers.get(b"origin")):
            await _refuse(send, 403, "this server answers no web pages of other servers")
        elif self._key and scope["path"] != _OPEN and not self._has_key(headers):
            await _refuse(send, 401, "send the server's key as `Authorization: Bearer KEY`")
        elif self._too_long(headers.get(b"content-length", b"0")):
            await _refuse(send, 413, too_large(self._bytes))
        else:
            await self._app(scope, *self._counting(receive, send))

    def _is_own(self, origin: bytes | None) -> bool:
        if origin is None:  # no browser, or a page that is opened directly
            return True
        try:
            # Pages in a sandbox and local files send `null`, which has no host.
            return (urlsplit(origin.decode("latin-1").strip()).hostname or "") in self._hosts
        except ValueError:
            return False

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key)

    def _too_long(self, length: bytes) -> bool:
        # A length that is no number is refused by the HTTP parser.
        return length.isdigit() and int(length[:20]) > self._bytes

    def _counting(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        count, gone = 0, False

        async def counted() -> Message:
            nonlocal count, gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            count += len(message.get("body", b""))
            if count > self._bytes:
                raise BodyTooLarge
            return message

        async def to_those_who_listen(message: Message) -> None:
            nonlocal gone
            if gone:
                return
            try:
                await send(message)
            except LocalProtocolError:
                # Bytes after the body were no request: uvicorn has refused them and closed.
                gone = True

        return counted, to_those_who_listen


def too_large(limit: int) -> str:
    """Says that a body exceeds the limit."""
    return f"the request has more than {limit / 2**20:g} MiB: send smaller images"


def error_body(message: str, status: int) -> bytes:
    """Returns an error as JSON in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}
    ).encode()


def _host(header: bytes) -> str:
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


async def _refuse(send: Send, status: int, message: str) -> None:
    body = error_body(message, status)
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
