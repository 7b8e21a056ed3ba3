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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_limit_options(parser, port=7860)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.app import app
    from ditfuse_jax.sample import Fuser
    from ditfuse_jax.weights import SHIPPED

    model = model_arguments(args)
    checkpoint = os.fspath(args.checkpoint or SHIPPED)
    app(
        checkpoint,
        adapters=args.lora,
        base=None if args.base is None else os.fspath(args.base),
        host=args.host,
        port=args.port,
        limits=limits_of(args),
        load=lambda: Fuser.load(
            checkpoint,
            adapters=model["adapters"],
            base=model["base"],
            **sampling_overrides(args),
        ),
    )
