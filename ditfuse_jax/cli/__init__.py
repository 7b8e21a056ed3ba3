"""The `ditfuse` command: one thin file per subcommand, no logic here."""

import argparse
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from ditfuse_jax import __version__
from ditfuse_jax.cli.ctrl_c import CtrlC
from ditfuse_jax.cli.environment import explain
from ditfuse_jax.cli.standard_streams import prepare_streams
from ditfuse_jax.cli.unused_options import given_options
from ditfuse_jax.errors import EXIT_TEMPORARY, EXIT_USER_ERROR, UserError, exit_code
from ditfuse_jax.files import CACHE_VARIABLE, PROGRAMS_VARIABLE, compilation_cache
from ditfuse_jax.paths import is_video
from ditfuse_jax.process_exit import exit_now, exit_quickly
from ditfuse_jax.resources import resource
from ditfuse_jax.working_memory import keep_working_memory

# Name -> help line.  The module of a command is imported when the command is chosen.
COMMANDS = {
    "train": "train a model from a recipe",
    "distill": "train a student that needs few steps and no guidance",
    "runs": "list the runs in a folder and how each is doing",
    "fuse": "fuse images with a trained model",
    "app": "fuse images in the browser",
    "serve": "serve a model over HTTP",
    "evaluate": "score a model or fused images, write a report",
    "prepare": "pack images into shards, check what was packed, or write prompts for pairs",
    "convert": "convert weights and adapters; compare with reference numbers",
    "compile": "compile for TPUs without having them: memory, FLOPs, time bounds",
    "bench": "measure speed",
    "sweep": "compare settings of a recipe in one table",
}

# Commands that run few programs for long; others were not measured with memory that is kept.
_LONG_RUNS = ("train", "distill", "bench")

# Commands that may take less time than the end of a process in Python.
_SHORT_RUNS = ("fuse",)

_CYCLES = 50_000, 20, 20  # new objects before a search for cycles of objects; see `gc`
_FIRST_CYCLES = 300_000  # more than a short command creates


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, like all bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    # JAX reads its variable when it is imported, which the modules of commands may do.
    os.environ.setdefault(CACHE_VARIABLE, str(compilation_cache()))
    # No option of `ditfuse` itself takes a value.
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser, subparser = _parsers(chosen)
    try:
        args, rest = parser.parse_known_args(argv)
    except UserError as error:  # an argument that is no path
        parser.exit(EXIT_USER_ERROR, f"{subparser.prog}: error: {error}\n")
    if rest and not getattr(args, "accepts_overrides", False):
        subparser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    args.given = given_options(argv)
    if args.verbose:
        _show_logs()
    else:
        _silence_dependencies()
    try:
        from ditfuse_jax.extensions import load_extensions

        if not getattr(args, "loads_extensions", False):
            args.imports = load_extensions(args.imports)
        return _module(args.command).run(args) or 0
    except UserError as error:
        if args.verbose:
            traceback.print_exc()
        print(f"ditfuse {args.command}: error: {error}", file=sys.stderr)
        return exit_code(error)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        if args.verbose:
            traceback.print_exc()
        print(f"ditfuse {args.command}: error: {line}", file=sys.stderr)
        return EXIT_USER_ERROR


def _parsers(chosen: str | None) -> tuple[_Parser, _Parser]:
    """Returns the parser of all commands and that of the chosen one, which alone has arguments."""
    parser = _Parser(
        prog="ditfuse",
        description="Instruction-driven image fusion with a diffusion transformer.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparser = parser
    for name, summary in COMMANDS.items():
        if name != chosen:
            subparsers.add_parser(name, help=summary)
            continue
        module = _module(name)
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(subparser)
        subparser.add_argument("--version", action="version", version=_version())
        subparser.add_argument(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="FILE|MODULE",
            help="extension to load: a Python file or module that registers tasks, metrics, ...",
        )
        subparser.add_argument(
            "--verbose",
            action="store_true",
            help="show the log messages of JAX, orbax and other libraries, and errors' tracebacks",
        )
    return parser, subparser


def _version() -> str:
    terms = resource("data", "small", "LICENSE")
    return (
        f"ditfuse_jax {__version__}\n"
        "code: Apache-2.0\n"
        "weights of the bundled model: LicenseRef-DiTFuse-Weights, research and non-commercial use "
        f"only, see {terms}"
    )


def _module(command: str) -> Any:
    return import_module(f"ditfuse_jax.cli.{command}")


def _runs_long(argv: Sequence[str]) -> bool:
    """Whether a command is one of those for which freed memory is kept: also fusing videos."""
    name, *rest = argv or [""]
    return name in _LONG_RUNS or (name == "fuse" and any(map(is_video, rest)))


def command() -> NoReturn:
    """The console command: runs `main` and ends the process with its exit code."""
    _search_cycles_late()
    ctrl_c = CtrlC(" ".join(["ditfuse", *(name for name in sys.argv[1:2] if name in COMMANDS)]))
    prepare_streams()
    try:
        if _runs_long(sys.argv[1:]):
            keep_working_memory()
        if "://" not in os.environ.get(CACHE_VARIABLE, ""):
            os.environ.setdefault(PROGRAMS_VARIABLE, str(compilation_cache() / "programs"))
        code = _main_flushed()
    except KeyboardInterrupt:
        ctrl_c.end()
    except BrokenPipeError:
        # Who reads the output has seen enough, such as `head`.  Nothing can be written any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_now(128 + signal.SIGPIPE)
    if code in (EXIT_USER_ERROR, EXIT_TEMPORARY):
        # At a normal exit, threads of a failed read may still print messages or block forever.
        exit_now(code)
    if sys.argv[1:2] in [[name] for name in _SHORT_RUNS]:
        exit_quickly(code)
    sys.exit(code)


def _main_flushed() -> int:
    """Runs `main` and writes what it printed; returns the exit code."""
    try:
        code = main()
    except SystemExit as error:  # of argparse, as by `--help`
        if not isinstance(error.code, int | None):
            raise
        code = error.code or 0
    try:
        sys.stdout.flush()
    except UserError as error:
        print(f"ditfuse: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return code


def _search_cycles_late() -> None:
    """Makes searches for cycles of objects rarer, and the first one late.

    Imports and tracing create many objects that stay: searching them takes long.  What is there at
    the end of the first search is never searched again.
    """

    def first_search(phase: str, info: dict[str, int]) -> None:
        del info
        if phase == "stop":
            gc.callbacks.remove(first_search)
            gc.freeze()
            gc.set_threshold(*_CYCLES)

    gc.callbacks.append(first_search)
    gc.set_threshold(_FIRST_CYCLES, *_CYCLES[1:])


def _show_logs() -> None:
    """Shows what libraries log."""
    # Before JAX is imported, which reads the variable then; worker processes inherit it.
    os.environ.setdefault("JAX_LOGGING_LEVEL", "INFO")
    logging.basicConfig(level=logging.INFO)
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.INFO)  # orbax and grain log through absl


def _silence_dependencies() -> None:
    """Drops log messages about failures that are raised as errors too."""
    from absl import logging as absl_logging

    # Each thread of orbax logs the failure that is raised afterwards; we report it once.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _unraisable(failure: Any) -> None:
    """Drops the messages of tensorstore's threads after the first failed read was raised."""
    if str(failure.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(failure)
