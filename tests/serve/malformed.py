"""Damaged requests, and a script that sends a thousand of them.

python -m tests.serve.malformed --port 8000 --count 1000
"""

import argparse
import collections
import http.client
import random
import socket
from collections.abc import Iterator

_HEADERS = (
    b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary=",
    b"Content-Type: multipart/form-data; boundary=" + b"b" * 5000,
    b"Content-Type: multipart/form-data; boundary=\xff\xfe",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: text/plain",
    b"Transfer-Encoding: chunked",
    b"Content-Length: -1",
    b"Content-Length: 1e9",
    b"Content-Encoding: gzip",
    b"Expect: 100-continue",
)


def malformed_requests(
    count: int, good: tuple[bytes, dict[str, str]], seed: int = 0
) -> Iterator[bytes]:
    """Yields the bytes of damaged requests.

    Args:
      count: number of requests.
      good: body and headers of a request that works.
      seed: of the damage.
    """
    rng = random.Random(seed)
    body, headers = good
    for number in range(count):
        data = _damaged(body, rng)
        lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        length = f"Content-Length: {len(data)}".encode()
        if number % 3 == 1:
            other = rng.choice(_HEADERS)
            lines = [other]
            if other.startswith((b"Content-Length", b"Transfer-Encoding")):
                length = b"X: y"
        elif number % 3 == 2:
            length = f"Content-Length: {max(0, len(data) + rng.randint(-500, 500))}".encode()
        path = rng.choice([b"/v1/fuse", b"/v1/images/edits", b"/v1/fuse?a=b", b"/v1/\xff"])
        start = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
        yield b"\r\n".join([*start, length, *lines, b"", data])


def _damaged(body: bytes, rng: random.Random) -> bytes:
    data = bytearray(body)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:
        for _ in range(rng.choice([1, 10, 500])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:
        start = rng.randrange(len(data))
        del data[start : start + rng.choice([1, 100, 2000])]
    elif kind == 3:
        start = rng.randrange(len(data))
        data[start:start] = rng.randbytes(rng.choice([1, 100, 5000]))
    elif kind == 4:
        return rng.randbytes(rng.randrange(3000))
    else:
        head = bytes(data[:120])
        return head * rng.randrange(1, 200)
    return bytes(data)


def _pictures() -> tuple[bytes, dict[str, str]]:
    import numpy as np

    from ditfuse_jax.images import encode_image

    picture = encode_image(np.zeros((48, 64, 3), np.uint8), "x.png")
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = 2 * (part + picture + b"\r\n") + b"--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def main() -> None:
    """Sends damaged requests to a server that runs, and prints how often it gave which answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    answers: collections.Counter[str] = collections.Counter()
    for request in malformed_requests(args.count, _pictures()):
        with socket.create_connection(("127.0.0.1", args.port), timeout=30) as stream:
            try:
                stream.sendall(request)
                stream.shutdown(socket.SHUT_WR)
                answers[stream.recv(12).decode("latin-1") or "closed"] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
    connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=30)
    connection.request("GET", "/healthz")
    print(dict(answers), "then", connection.getresponse().status)


if __name__ == "__main__":
    main()
