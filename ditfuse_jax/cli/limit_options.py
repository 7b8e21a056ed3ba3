"""Options shared by the commands that listen for requests: where, and within which limits."""

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ditfuse_jax.serve import Limits


def add_limit_options(
    parser: argparse.ArgumentParser, *, port: int, timeout: str = "seconds of a request"
) -> None:
    """Adds --host, --port and the limits; `timeout` is the help of --timeout."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=port, help="0 for a free one (default: %(default)s)")
    add("--queue", type=int, default=32, help="requests at the same time (default: %(default)s)")
    add("--timeout", type=float, default=120.0, help=f"{timeout} (default: %(default)s)")
    add(
        "--max-megabytes",
        type=int,
        default=64,
        help="MiB of a request's body (default: %(default)s)",
    )
    add(
        "--max-megapixels",
        type=float,
        default=16,
        help="of each image; judged before it is decoded (default: %(default)s)",
    )
    add("--max-steps", type=int, default=200, help="of the solver (default: %(default)s)")


def limits_of(args: argparse.Namespace) -> "Limits":
    """Returns the limits that the options name.

    Raises:
      UserError: see `Limits`.
    """
    from ditfuse_jax.serve import Limits

    pixels = args.max_megapixels * 1e6
    return Limits(
        queue=args.queue,
        seconds=args.timeout,
        request_bytes=args.max_megabytes << 20,
        # `Limits` refuses those that are no whole number.
        pixels=int(pixels) if math.isfinite(pixels) else pixels,
        steps=args.max_steps,
    )
