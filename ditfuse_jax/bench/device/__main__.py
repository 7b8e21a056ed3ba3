"""Everything that a borrowed GPU or TPU should settle, in a given time.

python -m ditfuse_jax.bench.device --minutes 8 -o DIR

Checks every attention kernel against the reference, forward and backward; times the kernels at 512
and 1024 px; measures the utilisation of training (adapters and all weights) with the
rematerialisation policies that fit; sampling; the bundled model; and PyTorch's attention, if it is
installed.  Most important first.  DIR/device.json and DIR/device.md hold every result as soon as it
is there.  What no longer fits into the time is skipped, and the files say so.
"""

import argparse
import fnmatch
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.bench.device.plan import FULL, SMALL, make_plan
from ditfuse_jax.bench.device.results import TABLE_FILE, Results
from ditfuse_jax.bench.device.supervise import supervise
from ditfuse_jax.errors import EXIT_USER_ERROR, UserError

# Seconds of the time that are kept for ending the last process and writing the files.
_RESERVE = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the measurements and returns the exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m ditfuse_jax.bench.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="time in all (default: %(default)s)")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    add("--small", action="store_true", help="sizes for a CPU: shows that everything runs")
    add("--only", default="*", metavar="PATTERN", help='measurements by name, like "train LoRA*"')
    args = parser.parse_args(argv)
    tasks = [
        task
        for task in make_plan(SMALL if args.small else FULL)
        if fnmatch.fnmatchcase(task.name, args.only)
    ]
    try:
        if not tasks:
            raise UserError(f"no measurement is called {args.only!r}")
        if not args.minutes > 0:
            raise UserError(f"--minutes must be positive, not {args.minutes}")
        facts = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "minutes": args.minutes,
            "sizes": "small" if args.small else "full",
        }
        results = Results(args.output, [task.name for task in tasks], facts)
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    deadline = started + 60 * args.minutes - _RESERVE
    supervise(tasks, results, deadline, small=args.small)
    print(results.table(), end="")
    print(f"\nwritten to {args.output / TABLE_FILE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
