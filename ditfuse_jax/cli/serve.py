"""Serve a model over HTTP.

  ditfuse serve                                       (the bundled model at http://127.0.0.1:8000)
  ditfuse serve --page                                (and the page of `ditfuse app` beside it)
  ditfuse serve --checkpoint runs/mine --port 9000 --batch-size 4
  DITFUSE_API_KEY=... ditfuse serve --host 0.0.0.0    (other machines, with a key)

  curl -F image=@vis.png -F image=@ir.png -F prompt="a little brighter" -F response_format=file \\
      http://127.0.0.1:8000/v1/fuse -o fused.png

Routes: POST /v1/fuse, POST /v1/images/edits (OpenAI's form), GET /v1/models, /healthz, /metrics.
"""

import argparse
import os
from pathlib import Path

from ditfuse_jax.cli.limit_options import add_limit_options, limits_of
from ditfuse_jax.cli.model_options import (
    add_model_options,
    add_sampling_options,
    model_arguments,
    sampling_overrides,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model_options(parser)
    add_limit_options(parser, port=8000)
    add("--no-warm-up", action="store_true", help="compile when the first request comes")
    add("--page", action="store_true", help="show the page of `ditfuse app` at the same address")
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    import jax

    from ditfuse_jax.sample import Fuser
    from ditfuse_jax.serve import serve
    from ditfuse_jax.weights import SHIPPED

    model = model_arguments(args)
    checkpoint, limits = args.checkpoint or Path(SHIPPED), limits_of(args)
    page = None
    if args.page:
        from ditfuse_jax.app import ModelChoice, page_maker

        base = None if args.base is None else os.fspath(args.base)
        choice = ModelChoice(os.fspath(checkpoint), tuple(args.lora), base, args.quantize)
        page = page_maker(choice, limits)
    # The batch size is that of the server's batches, not a setting of the model.
    sampling = sampling_overrides(args) | {"batch_size": None}
    serve(
        checkpoint,
        host=args.host,
        port=args.port,
        limits=limits,
        batch_size=args.batch_size,
        warm_up=not args.no_warm_up,
        load=lambda: Fuser.load(
            checkpoint,
            adapters=model["adapters"],
            base=model["base"],
            devices=jax.local_devices(),
            quantize=model["quantize"],
            **sampling,
        ),
        page=page,
    )
