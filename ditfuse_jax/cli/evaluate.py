"""Score a model, or fused images made by anyone, beside trivial baselines.

ditfuse evaluate --checkpoint runs/nano --data samples:heldout --count 6
ditfuse evaluate --checkpoint runs/nano --data DIR      (photographs, or image1/ image2/ [clean/])
ditfuse evaluate --a VIS --b IR --fused FUSED -o OUT    (folders with equal names)
ditfuse evaluate --checkpoint runs/nano --data DIR --control          (brightness and contrast)
ditfuse evaluate --checkpoint runs/nano --data labelled:DIR --segmentation
"""

import argparse
from pathlib import Path

from ditfuse_jax.cli import capabilities
from ditfuse_jax.cli.fuse import (
    add_model_arguments,
    add_sampling_arguments,
    model_words,
    sampling_changes,
)
from ditfuse_jax.errors import UserError

HELP = "score a model or fused images, write a report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model_arguments(parser)
    add("--data", default="samples:heldout", help="photographs or stacks (default: %(default)s)")
    add("--count", type=int, help="scenes; photographs are reused with other degradations")
    add("--task", default="fuse", help="whose standard prompt is used (default: %(default)s)")
    add("--a", type=Path, help="folder of first source images")
    add("--b", type=Path, help="folder of second source images")
    add("--fused", type=Path, help="folder of fused images to score instead of a model's")
    add("--clean", type=Path, help="folder of reference images, with --fused")
    add("-o", "--output", type=Path, help="where the report goes (default: the run folder)")
    capabilities.add_arguments(parser)
    add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import evaluate, evaluate_files

    if capabilities.chosen(args):
        return capabilities.run(args)
    if args.fused:
        if args.checkpoint or not (args.a and args.b and args.output):
            raise UserError("--fused goes with --a, --b and --output, and without --checkpoint")
        evaluate_files(
            sources=[args.a, args.b], fused=args.fused, clean=args.clean, output=args.output
        )
    elif args.checkpoint:
        if args.a or args.b or args.clean:
            raise UserError("--a, --b and --clean go with --fused; a model's images come by --data")
        evaluate(
            **model_words(args),
            data=args.data,
            output=args.output,
            count=args.count,
            task=args.task,
            changes=sampling_changes(args),
        )
    else:
        raise UserError("give --checkpoint, or --a, --b and --fused")
