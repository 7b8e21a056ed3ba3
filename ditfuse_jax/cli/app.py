"""Open a page for fusing images in the browser.

  ditfuse app                                         (the bundled model at http://127.0.0.1:7860)
  ditfuse app --checkpoint runs/mine --port 9000

The page works without a network and sends nothing anywhere.
"""

import argparse
import os

from ditfuse_jax.cli.limit_options import add_limit_options, limits_of
from ditfuse_jax.cli.model_options import (
    add_model_options,
    add_sampling_options,
    model_arguments,
    sampling_overrides,
)
from ditfuse_jax.cli.unused_options import refuse_unused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    # The page shows progress, so a fusion may take as long as it needs.
    ending = "seconds that running fusions get when the server is stopped"
    add_limit_options(parser, port=7860, timeout=ending)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.app import app
    from ditfuse_jax.sample import Fuser
    from ditfuse_jax.weights import SHIPPED

    refuse_unused(args, ["--batch-size"], "with app, which fuses one stack at a time")
    model = model_arguments(args)
    checkpoint = os.fspath(args.checkpoint or SHIPPED)
    app(
        checkpoint,
        adapters=args.lora,
        base=None if args.base is None else os.fspath(args.base),
        quantize=args.quantize,
        host=args.host,
        port=args.port,
        limits=limits_of(args),
        load=lambda: Fuser.load(
            checkpoint,
            adapters=model["adapters"],
            base=model["base"],
            quantize=model["quantize"],
            **sampling_overrides(args),
        ),
    )
