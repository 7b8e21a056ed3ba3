"""List the runs in a folder: which train, where each is, how fast, how good.

ditfuse runs runs
ditfuse runs gs://BUCKET/sweeps --sort best
ditfuse runs runs/block_size --json
"""

import argparse

from ditfuse_jax.paths import as_path

# The keys of `SORT_KEYS`, whose module is imported when the command runs.
_SORT_KEYS = ("name", "state", "step", "speed", "loss", "best", "written", "preset")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="DIR", type=as_path, help="folder of runs or sweeps; or a run")
    add("--sort", default="name", choices=_SORT_KEYS, help="order of the rows (default: name)")
    add("--json", action="store_true", help="print a list of JSON objects, one per run")


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.train.list_runs import print_runs

    print_runs(args.folder, args.sort, as_json=args.json)
