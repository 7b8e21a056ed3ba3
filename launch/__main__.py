"""Starts, shows or stops the training of a job description on the machines of a target."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from launch import commands, jobset, slurm, tpu_vm
from launch.errors import EXIT_USER_ERROR, LaunchError
from launch.job_spec import load_job_spec

TARGETS = {"slurm": slurm, "jobset": jobset, "tpu_vm": tpu_vm}


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, like all bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"launch: error: {message}; see python -m launch --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = _Parser(prog="python -m launch", description=__doc__)
    targets = parser.add_subparsers(dest="target", required=True, metavar="TARGET")
    for name, module in TARGETS.items():
        target = targets.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        target.add_argument("description", type=Path, metavar="DESCRIPTION", help="a Python file")
        target.add_argument(
            "action", nargs="?", default="run", choices=module.ACTIONS, help="default: run"
        )
        target.add_argument("--dry-run", action="store_true", help="only show what would be done")
    args = parser.parse_args(argv)
    try:
        planned = TARGETS[args.target].ACTIONS[args.action](load_job_spec(args.description))
        if args.dry_run:
            commands.show(planned)
            return 0
        return commands.run(planned)
    except LaunchError as error:
        print(f"launch: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
