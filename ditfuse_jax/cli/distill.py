"""Distil a model: a student that needs few steps and no guidance, or continue its run.

ditfuse distill TEACHER --config nano_distill --workdir runs/student
ditfuse distill OmniGen-v1 --config omnigen_distill --workdir runs/few_steps

The student is the teacher's model, or adapters around it, and its run folder is one of `ditfuse
train`.  Any setting of the recipe can be changed: --config.sample.steps=2.  Interrupted runs
continue with the same command.
"""

import argparse

from ditfuse_jax.cli.train import EXIT_STOPPED
from ditfuse_jax.paths import as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "teacher", metavar="TEACHER", help="a run folder, weights, or an address on the Hub"
    )
    parser.add_argument(
        "--config", required=True, metavar="RECIPE", help="nano_distill, ... or a file"
    )
    parser.add_argument("--workdir", required=True, type=as_path, help="the run folder")
    parser.set_defaults(accepts_overrides=True, loads_extensions=True)


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.parallel.heartbeat import exit_together
    from ditfuse_jax.parallel.processes import initialize

    initialize()
    with exit_together("ditfuse distill"):
        from ditfuse_jax.api import distill

        outcome = distill(
            args.teacher,
            args.config,
            args.workdir,
            overrides=args.overrides,
            imports=args.imports,
        )
    return EXIT_STOPPED if outcome.stopped else 0
