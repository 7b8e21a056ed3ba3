"""`ditfuse evaluate --control`, `--regions`, `--segmentation`, `--understanding`: instructions."""

import argparse

from ditfuse_jax.cli.model_options import model_arguments, sampling_overrides
from ditfuse_jax.cli.unused_options import MODEL_OPTIONS, refuse_unused, sampling_options
from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path

# Options that need the report on fused images.
_REPORT_OPTIONS = (
    *("a", "b", "c", "d", "fused", "clean", "suite", "root", "metrics"),
    *("json", "csv", "markdown", "latex", "range"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that measure control or segmentation instead of writing a report."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--control",
        action="store_true",
        help="measure control of brightness, contrast, saturation, detail and emphasis",
    )
    what.add_argument(
        "--regions",
        action="store_true",
        help="measure requests that are limited to the classes of labelled scenes",
    )
    what.add_argument(
        "--segmentation", action="store_true", help="measure segmentation of labelled scenes"
    )
    what.add_argument(
        "--understanding",
        nargs="*",
        type=as_path,
        metavar="FILE",
        help="measure how often sentences are understood: the package's, or lines of "
        "SENTENCE<TAB>REQUESTS",
    )
    parser.add_argument(
        "--classes",
        metavar="NAME,...",
        help="of --segmentation (default: all)",
    )
    parser.add_argument(
        "--views",
        metavar="KIND",
        help="of --segmentation: what a photograph becomes: m3 views (default), or day or night, "
        "the photograph beside simulated infrared",
    )
    parser.add_argument(
        "--without-tags",
        action="store_true",
        help="with --control and --segmentation: prompts without tags, as users type them",
    )


def is_requested(args: argparse.Namespace) -> bool:
    """Returns whether one of these is to be measured.

    Raises:
      UserError: --classes or --views without --segmentation, or --without-tags without either.
    """
    if args.classes is not None and not args.segmentation:
        raise UserError("--classes needs --segmentation")
    if args.views is not None and not args.segmentation:
        raise UserError("--views needs --segmentation")
    if args.without_tags and not (args.control or args.segmentation):
        raise UserError("--without-tags needs --control or --segmentation")
    return args.control or args.regions or args.segmentation or args.understanding is not None


def run(args: argparse.Namespace) -> None:
    """Measures what was asked for.

    Raises:
      UserError: no model, or options that only a report uses.
    """
    from ditfuse_jax.api import (
        evaluate_control,
        evaluate_regions,
        evaluate_segmentation,
        evaluate_understanding,
    )

    flags = {
        "--control": args.control,
        "--regions": args.regions,
        "--segmentation": args.segmentation,
        "--understanding": args.understanding is not None,
    }
    (flag,) = (name for name, given in flags.items() if given)
    for name in _REPORT_OPTIONS:
        if getattr(args, name, None):
            raise UserError(f"--{name} cannot be used with {flag}: name the scenes with --data")
    refuse_unused(args, ["--preset"], f"with {flag}, which computes no metrics of fusion")
    refuse_unused(args, ["--align"], f"with {flag}, whose scenes are registered")
    refuse_unused(args, ["--full-pictures"], f"with {flag}, whose report has no such pictures")
    if args.understanding is not None:
        unused = (*MODEL_OPTIONS, "--data", "--count", "--task", *sampling_options())
        refuse_unused(args, unused, "with --understanding, which measures the parser of sentences")
        evaluate_understanding(args.understanding, output=args.output)
        return
    if args.segmentation:
        refuse_unused(args, ["--task"], "with --segmentation, whose task is to mark classes")
    if args.regions:
        refuse_unused(args, ["--task"], "with --regions, which asks for brightness")
    if not args.checkpoint:
        raise UserError(f"{flag} needs --checkpoint, the model to evaluate")
    common = model_arguments(args) | {
        "data": args.data or "samples:heldout",
        "output": args.output,
        "count": args.count,
        "sampling": sampling_overrides(args),
    }
    if args.regions:
        evaluate_regions(**common)
    elif args.control:
        evaluate_control(**common, tags=not args.without_tags, task=args.task)
    else:
        names = [name.strip() for name in (args.classes or "").split(",") if name.strip()]
        evaluate_segmentation(**common, tags=not args.without_tags, classes=names, views=args.views)
