"""Compare settings of a recipe over seeds: train them all and write one table with plots.

ditfuse sweep block_size --workdir runs/block_size -n 2
ditfuse sweep my_sweep.py --workdir runs/mine --config.train.steps=500
ditfuse sweep block_size --workdir /shared/runs/b --slurm launch/examples/sweep.py --dry-run

An interrupted sweep continues with the same command; finished runs are kept.
"""

import argparse

from ditfuse_jax.cli.unused_options import refuse_unused
from ditfuse_jax.paths import as_path

EXIT_FAILED = 1  # some runs failed; the others are finished
EXIT_STOPPED = 143


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sweep", metavar="SWEEP", help="block_size, noise_draws, ... or a file with get_sweep")
    add("--workdir", required=True, type=as_path, help="folder of the runs and the report")
    add("--config", default="", metavar="RECIPE", help="replaces the sweep's own recipe")
    add("-n", type=int, default=1, help="trainings at a time (default: 1); 0: only the report")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--slurm", type=as_path, metavar="JOB", help="submit an array with this launch/ file"
    )
    where.add_argument(
        "--jobset", type=as_path, metavar="JOB", help="submit JobSets with this launch/ file"
    )
    add("--dry-run", action="store_true", help="show what would be run or submitted")
    parser.set_defaults(accepts_overrides=True)


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.api import submit_sweep, sweep

    arguments = (args.sweep, args.workdir, args.overrides)
    description = args.slurm or args.jobset
    if description:
        refuse_unused(args, ["-n"], "on a cluster, which starts the trainings")
        target = "slurm" if args.slurm else "jobset"
        return submit_sweep(
            *arguments,
            recipe=args.config,
            imports=args.imports,
            target=target,
            description=description,
            dry_run=args.dry_run,
        )
    outcome = sweep(
        *arguments,
        recipe=args.config,
        imports=args.imports,
        workers=args.n,
        dry_run=args.dry_run,
    )
    if outcome.stopped:
        return EXIT_STOPPED
    return EXIT_FAILED if outcome.failures else 0
