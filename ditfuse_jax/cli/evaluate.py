"""Score a model or existing fused images, together with trivial baselines.

ditfuse evaluate --checkpoint runs/nano --data samples:heldout --count 6
ditfuse evaluate --checkpoint runs/nano --data DIR      (photographs, or image1/ image2/ [clean/])
ditfuse evaluate --a VIS --b IR --fused FUSED -o OUT    (folders with equal names)
ditfuse evaluate --a VIS --b IR --fused Mine=DIR1 --fused Theirs=DIR2 -o OUT
ditfuse evaluate --checkpoint runs/nano --a VIS --b IR --fused Theirs=DIR -o OUT
ditfuse evaluate --checkpoint runs/nano --a VIS --b IR --align -o OUT  (not registered)
ditfuse evaluate --suite dev --root ../shared/data -o OUT [--checkpoint runs/nano]
ditfuse evaluate --suite degraded --root ../shared/data -o OUT --checkpoint runs/nano --count 5
ditfuse evaluate --checkpoint runs/nano --data DIR --control          (brightness and contrast)
ditfuse evaluate --checkpoint runs/nano --data labelled:DIR --segmentation
ditfuse evaluate --sequence --a vis.mp4 --b ir.mp4 --fused fused.mp4    (flicker; or folders)

After an interruption the same command continues, but --control, --regions, --segmentation and
--sequence start again.  Images that cannot be scored are listed and excluded.
"""

import argparse
from pathlib import Path
from typing import Any

from ditfuse_jax.cli import capabilities
from ditfuse_jax.cli.model_options import (
    add_align_option,
    add_model_options,
    add_range_option,
    add_sampling_options,
    model_arguments,
    sampling_overrides,
)
from ditfuse_jax.cli.unused_options import MODEL_OPTIONS, refuse_unused, sampling_options
from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path

_DATA = "samples:heldout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model_options(parser)
    add("--data", default=_DATA, help="photographs or stacks (default: %(default)s)")
    add("--count", type=int, help="scenes; photographs are reused with other degradations")
    add("--task", default="fuse", help="prompt and metrics: fuse, ivif, mff, mef (default: fuse)")
    for letter, place in zip("abcd", ("first", "second", "third", "fourth"), strict=True):
        add(f"--{letter}", type=as_path, help=f"folder of {place} source images")
    add("--clean", type=as_path, help="folder of reference images, with --a and --b")
    add(
        "--fused",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder of fused images; repeat it to compare methods",
    )
    add("--suite", help="score on the data sets of a suite: dev, degraded, misaligned")
    add("--root", type=as_path, help="folder of the suite's data (default: the suite's own)")
    add("--metrics", nargs="+", metavar="NAME", help="metrics, or all (default: the task's)")
    add(
        "--preset",
        default="canonical",
        help="conventions of a published table: linfeng, vifb, ...",
    )
    add("-o", "--output", type=as_path, help="folder of the report (default: the run folder)")
    for kind in ("json", "csv", "markdown", "latex"):
        add(f"--{kind}", type=as_path, metavar="FILE", help=f"also write the scores as {kind}")
    add(
        "--full-pictures",
        action="store_true",
        help="also write the report's pictures at full size, beside it",
    )
    add_range_option(parser)
    add_align_option(parser)
    add(
        "--sequence",
        action="store_true",
        help="measure flicker: --a, --b and --fused are videos or folders of frames",
    )
    add("--fps", type=float, metavar="RATE", help="with --sequence: frames per second of folders")
    add(
        "--pairing",
        choices=("number", "shortest", "time"),
        default="number",
        help="with --sequence: which frames of the sources belong together, as in `ditfuse fuse`",
    )
    capabilities.add_arguments(parser)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import evaluate, evaluate_files
    from ditfuse_jax.evaluate import EvaluationOptions, Exports, Folders, parse_methods

    if args.sequence:
        return _run_sequence(args)
    refuse_unused(args, ["--fps", "--pairing"], "without --sequence")
    if capabilities.is_requested(args):
        return capabilities.run(args)
    exports = Exports(args.json, args.csv, args.markdown, args.latex)
    options = EvaluationOptions(args.metrics, args.preset, exports, args.full_pictures)
    folders = [folder for folder in (args.a, args.b, args.c, args.d) if folder]
    model = {**model_arguments(args), "sampling": sampling_overrides(args)}
    _check(args, folders)
    if args.suite:
        _run_suite(args, model)
    elif args.checkpoint:
        data = Folders(tuple(folders), args.clean) if folders else args.data
        evaluate(
            **model,
            data=data,
            fused=parse_methods(args.fused, beside_model=True),
            output=args.output,
            count=args.count,
            task=args.task,
            options=options,
            value_range=args.range or "auto",
            align=args.align,
        )
    else:
        evaluate_files(
            sources=folders,
            fused=parse_methods(args.fused),
            clean=args.clean,
            output=args.output,
            task=args.task,
            options=options,
            value_range=args.range or "auto",
            align=args.align,
        )


def _run_suite(args: argparse.Namespace, model: dict[str, Any]) -> None:
    from ditfuse_jax.api import evaluate_degraded, evaluate_suite
    from ditfuse_jax.evaluate.runner.suites import SUITES

    places = {"root": args.root, "output": args.output}
    if SUITES.find(args.suite).conditions:
        refuse_unused(args, ["--full-pictures"], "with this suite, whose report has no pictures")
        if args.metrics or args.preset != "canonical":
            raise UserError(
                f"--suite {args.suite} has its own metrics: leave --metrics and --preset out"
            )
        evaluate_degraded(
            args.suite, count=args.count, align=args.align, json=args.json, **places, **model
        )
        return
    refuse_unused(args, ["--align"], "with this suite, whose data is scored as it is")
    if args.count is not None or args.json:
        raise UserError(
            f"--suite {args.suite} has its own data, methods and tables: leave those options out"
        )
    options = {"metrics": args.metrics, "preset": args.preset}
    evaluate_suite(args.suite, **options, full_pictures=args.full_pictures, **places, **model)


def _run_sequence(args: argparse.Namespace) -> None:
    """Measures how steady fused sequences are.

    Raises:
      UserError: options that only a report of images uses, or a missing one.
    """
    from ditfuse_jax.api import evaluate_sequence
    from ditfuse_jax.evaluate import parse_methods

    unused = ["--data", "--count", "--clean", "--suite", "--root", "--metrics", "--preset", "-o"]
    unused += ["--output", "--csv", "--markdown", "--latex", "--control", "--regions"]
    unused += ["--segmentation", "--understanding", "--classes", "--without-tags", "--views"]
    unused += ["--full-pictures", "--align"]
    refuse_unused(args, unused, "with --sequence")
    if not args.checkpoint:
        unused = (*MODEL_OPTIONS, *sampling_options(), "--task")
        refuse_unused(args, unused, "without --checkpoint, the model that fuses the sequence")
    sources = [one for one in (args.a, args.b, args.c, args.d) if one]
    if not (args.a and args.b) or not (args.fused or args.checkpoint):
        raise UserError(
            "--sequence needs the sources (--a, --b: videos or folders of frames) and fused "
            "sequences (--fused) or a model (--checkpoint)"
        )
    evaluate_sequence(
        sources,
        parse_methods(args.fused, beside_model=bool(args.checkpoint)),
        **model_arguments(args),
        task=args.task,
        sampling=sampling_overrides(args),
        value_range=args.range or "auto",
        pairing=args.pairing,
        fps=args.fps,
        json_file=args.json,
    )


def _check(args: argparse.Namespace, folders: list[Path]) -> None:
    """Checks which options are given together.

    Raises:
      UserError: options that exclude each other, or one that needs another.
    """
    if not args.checkpoint:
        unused = (*MODEL_OPTIONS, *sampling_options())
        refuse_unused(args, unused, "without --checkpoint, the model to evaluate")
    exports = (args.json, args.csv, args.markdown, args.latex)
    has_data = args.data != _DATA or "--data" in args.given
    if args.suite:
        refuse_unused(args, ["--range"], "with --suite, whose data has 8 bits")
        refuse_unused(args, ["--task"], "with --suite, whose data sets have their own tasks")
        if folders or args.fused or has_data or args.clean or any(exports[1:]):
            raise UserError("--suite has its own data, methods and tables: leave those options out")
        if not args.output:
            raise UserError("--suite needs --output, the folder of its reports")
        return
    if args.root:
        raise UserError("--root needs --suite")
    if folders and not (args.a and args.b):
        raise UserError("name at least two folders of sources: --a, --b, ...")
    if args.clean and not folders:
        raise UserError("--clean needs --a and --b")
    if has_data and folders:
        raise UserError("name the sources either with --data or with --a and --b")
    if not args.checkpoint:
        if not (args.fused or folders):
            raise UserError("name a model (--checkpoint), images (--a, --b, --fused) or a --suite")
        if not (args.fused and folders and (args.output or any(exports))):
            raise UserError(
                "--fused needs --a, --b and --output or a file for the scores (--json FILE), or "
                "--checkpoint"
            )
        if args.full_pictures and not args.output:
            raise UserError("--full-pictures needs --output, the folder of the report")
        if has_data or args.count is not None:
            raise UserError("--data and --count need --checkpoint")
