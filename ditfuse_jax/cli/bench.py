"""Measure speed: training steps, sampling, the data pipeline, metrics, the start of `fuse`.

ditfuse bench train --config nano_m3 --json
"""

import argparse

from ditfuse_jax.cli.unused_options import refuse_unused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="BENCHMARK", help="train, sample, data, m3, packed, metrics or start"
    )
    parser.add_argument("--config", default="nano_m3", metavar="RECIPE", help="default: nano_m3")
    parser.add_argument(
        "--repeats", type=int, default=5, help="measured runs (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(accepts_overrides=True)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import bench
    from ditfuse_jax.bench.run import WITHOUT_RECIPE

    if args.what in WITHOUT_RECIPE:
        unused = [option for option in args.given if option.startswith("--config")]
        refuse_unused(args, sorted(unused), f"with {args.what}, which measures the bundled model")
    bench(args.what, args.config, args.overrides, repeats=args.repeats, as_json=args.json)
