"""`ditfuse evaluate --control` and `--segmentation`: what a model makes of words."""

import argparse

from ditfuse_jax.cli.model_options import model_arguments, sampling_overrides
from ditfuse_jax.errors import UserError

# Words of the report on fused images.
_OF_REPORTS = (
    *("a", "b", "c", "d", "fused", "clean", "suite", "root", "metrics"),
    *("json", "csv", "markdown", "latex"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words that choose an examination instead of a report."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--control", action="store_true", help="measure control of brightness and contrast"
    )
    what.add_argument(
        "--segmentation", action="store_true", help="measure segmentation of labelled scenes"
    )
    parser.add_argument(
        "--classes", metavar="NAME,...", help="with --segmentation: asked for (default: all)"
    )
    parser.add_argument(
        "--without-tags",
        action="store_true",
        help="with --control and --segmentation: prompts are sentences as users type them",
    )


def chosen(args: argparse.Namespace) -> bool:
    """Whether the command is an examination; refuses words that only then have a meaning.

    Raises:
      UserError: --classes without --segmentation, --without-tags without either.
    """
    if args.classes is not None and not args.segmentation:
        raise UserError("--classes goes with --segmentation")
    if args.without_tags and not (args.control or args.segmentation):
        raise UserError("--without-tags goes with --control or --segmentation")
    return args.control or args.segmentation


def run(args: argparse.Namespace) -> None:
    """Runs the examination.

    Raises:
      UserError: no model, or words that belong to a report.
    """
    from ditfuse_jax.api import evaluate_control, evaluate_segmentation

    flag = "--control" if args.control else "--segmentation"
    if not args.checkpoint:
        raise UserError(f"{flag} needs --checkpoint: the model to examine")
    for name in _OF_REPORTS:
        if getattr(args, name, None):
            raise UserError(f"--{name} does not go with {flag}: give --data")
    common = model_arguments(args) | {
        "data": args.data or "samples:heldout",
        "output": args.output,
        "count": args.count,
        "sampling": sampling_overrides(args),
        "tags": not args.without_tags,
    }
    if args.control:
        evaluate_control(**common, task=args.task)
    else:
        names = args.classes.split(",") if args.classes else []
        evaluate_segmentation(**common, classes=[name.strip() for name in names])
