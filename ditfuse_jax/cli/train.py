"""Train a model, or continue a run.

Any setting of the recipe can be changed: --config.optimizer.learning_rate=3e-4.
Interrupted runs continue with the same command.
"""

import argparse

from ditfuse_jax.paths import as_path

# As the shell tells a process ended by SIGTERM: what comes after `&&` does not start.
EXIT_STOPPED = 143


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="RECIPE", help="nano_m3, ... or a file")
    parser.add_argument("--workdir", required=True, type=as_path, help="the run folder")
    parser.set_defaults(accepts_overrides=True, loads_extensions=True)


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.parallel.heartbeat import exit_together
    from ditfuse_jax.parallel.processes import initialize

    # Only a training is shared by several processes: other commands run beside one, each alone.
    initialize()
    with exit_together("ditfuse train"):
        from ditfuse_jax.api import train
        from ditfuse_jax.extensions import load_extensions
        from ditfuse_jax.train import load_recipe

        # An extension may use JAX, which must have met the other processes before.
        imports = load_extensions(args.imports)
        config = load_recipe(args.config, args.overrides, imports)
        outcome = train(config, args.workdir)
    return EXIT_STOPPED if outcome.stopped else 0
