"""The `ditfuse` command: one thin file per subcommand, no logic here."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from ditfuse_jax import __version__
from ditfuse_jax.ending import end_now
from ditfuse_jax.errors import EXIT_USER_ERROR, UserError
from ditfuse_jax.files import CACHE_VARIABLE, compilation_cache
from ditfuse_jax.working_memory import keep_working_memory

COMMANDS = ("train", "fuse", "evaluate", "prepare", "convert", "compile", "bench", "sweep")

# Commands that run few programs for long; others were not measured with memory that is kept.
_LONG_RUNS = ("train", "bench")


class _Parser(argparse.ArgumentParser):
    """Tells wrong words in one line, like all bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit code."""
    parser = _Parser(
        prog="ditfuse", description="Instruction-driven image fusion with a diffusion transformer."
    )
    parser.add_argument("--version", action="version", version=f"ditfuse_jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = {}
    for name in COMMANDS:
        modules[name] = import_module(f"ditfuse_jax.cli.{name}")
        modules[name].add_arguments(
            subparsers.add_parser(
                name,
                help=modules[name].HELP,
                description=modules[name].__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
        )
    args, rest = parser.parse_known_args(argv)
    if rest and not getattr(args, "accepts_overrides", False):
        subparsers.choices[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    try:
        _prepare_jax()
        return modules[args.command].run(args) or 0
    except UserError as error:
        print(f"ditfuse {args.command}: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"ditfuse {args.command}: interrupted", file=sys.stderr)
        return 130


def command() -> NoReturn:
    """The console command: `main`, whose one line about bad input is the last thing said."""
    if sys.argv[1:2] in [[name] for name in _LONG_RUNS]:
        keep_working_memory()
    code = main()
    if code == EXIT_USER_ERROR:
        # Threads of a failed read may still complain while the interpreter ends, or never return.
        end_now(code)
    sys.exit(code)


def _prepare_jax() -> None:
    """Settings that must precede the first use of JAX."""
    # Compiled programs are kept between runs; the variable is JAX's own, so users can move it.
    os.environ.setdefault(CACHE_VARIABLE, str(compilation_cache()))
    from absl import logging as absl_logging

    # Orbax logs, thread by thread, the failures that it then raises; we tell them once.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _unraisable(failure: Any) -> None:
    """Drops what tensorstore's threads say once the first of several failed reads was raised."""
    if str(failure.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(failure)
