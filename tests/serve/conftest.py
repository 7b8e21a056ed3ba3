"""Servers in processes of their own, and a client that can also send nonsense."""

import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ditfuse_jax.images import encode_image

BOUNDARY = "a7f3boundary"


@dataclasses.dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["error"]["message"]


def form(parts: Sequence[tuple[str, str | bytes]]) -> tuple[bytes, dict[str, str]]:
    """Returns body and headers of a form; bytes become files."""
    body = b""
    for name, value in parts:
        file = f'; filename="../{name}.png"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclasses.dataclass
class Served:
    """A running server."""

    process: subprocess.Popen
    port: int

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, parts: Sequence[tuple[str, str | bytes]], **headers: str) -> Answer:
        body, own = form(parts)
        return self.send("POST", path, body, own | headers)

    def raw(self, data: bytes, seconds: float = 10) -> bytes:
        """Sends bytes, closes this direction, and returns what comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as stream:
            with contextlib.suppress(OSError):  # refused before all was sent
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(OSError):
                while part := stream.recv(65536):
                    answer += part
            return answer

    def counted(self, name: str) -> float:
        """The value of a line of /metrics."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.M)
        return float(found[1]) if found else 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def running(
    *options: str, port: int = 0, warm_up: bool = False, **environment: str
) -> Iterator[Served]:
    """Starts `ditfuse serve` with the bundled model and one step; kills it at the end."""
    command = [sys.executable, "-m", "ditfuse_jax", "serve", "--port", str(port), "--steps", "1"]
    process = subprocess.Popen(
        [*command, *([] if warm_up else ["--no-warm-up"]), *options],
        stdout=subprocess.PIPE,
        text=True,
        # With one arena, memory that is freed can be told from memory that is lost.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"} | environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"serving small(?: on \d+ devices)? at http://127\.0\.0\.1:(\d+)\n", line)
        assert found, (line, process.poll())
        yield Served(process, int(found[1]))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def start():
    """The function `running`."""
    return running


@pytest.fixture(scope="session")
def server():
    """A server with small limits."""
    with running("--queue", "8", "--max-megabytes", "2", "--max-megapixels", "0.1") as served:
        yield served


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Two images of 48 x 64 pixels with some structure."""
    rows, columns = np.indices((48, 64))
    first = 127 + 60 * np.sin(columns / 5) + 40 * np.cos(rows / 4)
    second = 127 + 60 * np.sin((rows + columns) / 7)
    colours = np.array([1.0, 0.9, 0.8])
    return [(x[..., None] * colours).clip(0, 255).astype(np.uint8) for x in (first, second)]


@pytest.fixture(scope="session")
def files(images) -> list[bytes]:
    """The images as PNG files."""
    return [encode_image(image, "x.png") for image in images]


@pytest.fixture(scope="session")
def form_of():
    """The function `form`."""
    return form
