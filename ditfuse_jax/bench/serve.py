"""Throughput and latency of `ditfuse serve` for several clients, beside calls in a loop.

    python -m ditfuse_jax.bench.serve --clients 1 4 16 --requests 16 --size 640x480

A server process is started for the measurement.  All requests have one size, and each sends its own
files, as PNG.  Before every number of clients a loop calls `Fuser` with the same files in this
process: what else the machine does then changes both, and their ratio little.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import encode_image
from ditfuse_jax.sample import Fuser

_BOUNDARY = "ditfuse-bench"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", default="small")
    add("--size", default="640x480", help="width x height (default: %(default)s)")
    add("--clients", type=int, nargs="+", default=[1, 4, 16])
    add("--requests", type=int, default=16, help="for each number of clients")
    add("--batch-size", type=int, default=1, help="of the server")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    width, height = map(int, args.size.split("x"))
    files = _files(width, height, args.requests)
    call = _loop(args.checkpoint, files[0])
    rows = []
    with _server(args.checkpoint, args.batch_size, max(args.clients)) as port:
        _post(port, files[0])  # the first one may compile
        for clients in args.clients:
            loop = _load(1, files, call)
            served = _load(clients, files, functools.partial(_post, port))
            ratio = served["rate"] / loop["rate"]
            rows += [{"who": "loop", **loop, "ratio": 1.0}]
            rows += [{"who": f"server, {clients} clients", **served, "ratio": ratio}]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'':20} against the loop   images/s   median s   95th percentile s")
    for row in rows:
        print(
            f"{row['who']:20} {row['ratio']:16.2f} {row['rate']:10.2f} {row['median']:10.2f}"
            f" {row['slow']:19.2f}"
        )


def _files(width: int, height: int, count: int) -> list[list[bytes]]:
    """Returns pairs of encoded images with some structure."""
    rows, columns = np.indices((height, width))
    pairs = []
    for k in range(count):
        waves = (np.sin(columns / (9 + k)) + np.cos(rows / 7), np.sin((rows + columns) / (11 + k)))
        pixels = [(127 + 60 * wave)[..., None].repeat(3, 2).clip(0, 255) for wave in waves]
        pairs.append([encode_image(image.astype(np.uint8), "x.png") for image in pixels])
    return pairs


def _loop(checkpoint: str, first: list[bytes]) -> Callable[[list[bytes]], Any]:
    """Returns a call that fuses a pair in this process; the first one has been fused."""
    fuser = Fuser.load(checkpoint)

    def call(pair: list[bytes]) -> None:
        fuser(*(Image.open(io.BytesIO(data)) for data in pair)).encode()

    call(first)
    return call


def _load(
    clients: int, files: Sequence[list[bytes]], ask: Callable[[list[bytes]], Any]
) -> dict[str, float]:
    """Lets clients ask for all pairs together; each sends its next one after an answer."""

    def timed(pair: list[bytes]) -> float:
        started = time.perf_counter()
        ask(pair)
        return time.perf_counter() - started

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(timed, files))
    rate = len(files) / (time.perf_counter() - started)
    slow = float(np.percentile(seconds, 95))
    return {"rate": rate, "median": statistics.median(seconds), "slow": slow}


def _post(port: int, pair: Sequence[bytes]) -> None:
    start = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    parts = b"".join(start.encode() + data + b"\r\n" for data in pair)
    file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nfile'
    body = parts + f"{file}\r\n--{_BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/fuse", body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
    if response.status != 200:
        raise UserError(f"the server answered {response.status}: {answer[:200]!r}")


@contextlib.contextmanager
def _server(checkpoint: str, batch_size: int, clients: int) -> Iterator[int]:
    """Starts a server for at least so many clients; gives its port."""
    command = [sys.executable, "-m", "ditfuse_jax", "serve", "--port", "0", "--timeout", "600"]
    command += ["--checkpoint", checkpoint, "--batch-size", str(batch_size)]
    command += ["--queue", str(2 * clients)]
    environment = {name: value for name, value in os.environ.items() if name != "DITFUSE_API_KEY"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http://" not in line:
            raise UserError("the server did not start, see above")
        yield int(line.rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
