"""Serve a model over HTTP.

  ditfuse serve                                       (the bundled model at http://127.0.0.1:8000)
  ditfuse serve --checkpoint runs/mine --port 9000 --batch-size 4
  DITFUSE_API_KEY=... ditfuse serve --host 0.0.0.0    (other machines, with a key)

  curl -F image=@vis.png -F image=@ir.png -F prompt="a little brighter" -F response_format=file \\
      http://127.0.0.1:8000/v1/fuse -o fused.png

Routes: POST /v1/fuse, POST /v1/images/edits (OpenAI's form), GET /v1/models, /healthz, /metrics.
"""

import argparse
from pathlib import Path

from ditfuse_jax.cli.model_options import (
    add_model_options,
    add_sampling_options,
    model_arguments,
    sampling_overrides,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model_options(parser)
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=8000, help="0 for a free one (default: %(default)s)")
    add("--queue", type=int, default=32, help="requests at the same time (default: %(default)s)")
    add("--timeout", type=float, default=120.0, help="seconds of a request (default: %(default)s)")
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
    add("--no-warm-up", action="store_true", help="compile when the first request comes")
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.sample import Fuser
    from ditfuse_jax.serve import Limits, serve
    from ditfuse_jax.weights import SHIPPED

    model = model_arguments(args)
    checkpoint = args.checkpoint or Path(SHIPPED)
    # The batch size is that of the server's batches, not a setting of the model.
    sampling = sampling_overrides(args) | {"batch_size": None}
    serve(
        checkpoint,
        host=args.host,
        port=args.port,
        limits=Limits(
            queue=args.queue,
            seconds=args.timeout,
            request_bytes=args.max_megabytes << 20,
            pixels=int(args.max_megapixels * 1e6),
            steps=args.max_steps,
        ),
        batch_size=args.batch_size,
        warm_up=not args.no_warm_up,
        load=lambda: Fuser.load(
            checkpoint, adapters=model["adapters"], base=model["base"], **sampling
        ),
    )
