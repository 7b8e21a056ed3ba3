"""Compile for devices without having them: does a program fit, and how fast can it be at best?

ditfuse compile --preset omnigen --topology v6e:16x16 --slices 2 --json
ditfuse compile --preset omnigen --topology v5p:4x4x4 --lora --config.model.remat=full
ditfuse compile --preset omnigen --topology v6e:2x4 --program sample --image-size 1024
ditfuse compile --config omnigen_distill --topology v6e:2x4
ditfuse compile --preset omnigen --device rtx4090 --program sample --quantize nf4
ditfuse compile --table docs/scaling.md

--device is a GPU: the program is compiled for a TPU in its place.  Needs the TPU compiler
(pip install 'ditfuse-jax[compile]') and no TPU.  When a program does not fit, the exit code is 3
and the report names what takes most of the memory.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ditfuse_jax.cli.unused_options import refuse_unused
from ditfuse_jax.errors import UserError

if TYPE_CHECKING:
    from ditfuse_jax.aot import Report

EXIT_DOES_NOT_FIT = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", default="omnigen", help="of the model (default: %(default)s)")
    add("--topology", metavar="CHIP:AxB", help="v5e, v5p, v6e or v7x and a slice's chips per axis")
    add("--device", metavar="GPU", help="l4, l40s, rtx4090, a100, h100 or h200: does it fit one?")
    add("--slices", type=int, default=1, help="default: %(default)s")
    add("--config", default="", metavar="RECIPE", help="a recipe instead of a preset")
    add("--program", default="train", help="train or sample (default: %(default)s)")
    add("--lora", action="store_true", help="train the adapters of omnigen_lora")
    add(
        "--quantize",
        metavar="int8|nf4",
        help="keep the kernels in 8 or 4 bits: of the sampler, or under the adapters of --lora",
    )
    add("--image-size", type=int, default=512, help="side in pixels (default: %(default)s)")
    add(
        "--batch-size",
        type=int,
        default=0,
        help="examples (default: four per device to train, one per slice to sample; with --config "
        "the recipe's; with --device one at a time)",
    )
    add("--low-effort", action="store_true", help="compile faster, with fewer optimisations")
    add("--json", action="store_true", help="print one JSON array of the programs' reports")
    add("--table", type=Path, metavar="FILE", help="write the table in docs/scaling.md instead")
    add("--missing", action="store_true", help="with --table: only the missing rows")
    parser.set_defaults(accepts_overrides=True, loads_extensions=True)


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # no device is used
    from ditfuse_jax.aot import CompileConfig, Topology, compile_for_card, compile_programs
    from ditfuse_jax.aot.table import write_table
    from ditfuse_jax.extensions import load_extensions

    load_extensions(args.imports)
    if args.missing and not args.table:
        raise UserError("--missing needs --table docs/scaling.md")
    if args.table:
        unused = ("--preset", "--topology", "--slices", "--program", "--lora", "--image-size")
        unused += ("--device", "--quantize", "--config")
        unused += ("--batch-size", "--json", *sorted(o for o in args.given if o[:9] == "--config."))
        refuse_unused(args, unused, "with --table, which has its own")
        write_table(args.table, missing=args.missing, low_effort=args.low_effort)
        return 0
    if bool(args.topology) == bool(args.device):
        raise UserError(
            "give --topology, like v6e:16x16, or --device, like h100, or --table docs/scaling.md"
        )
    if args.config:
        unused = ("--preset", "--lora", "--image-size")
        refuse_unused(args, unused, "with --config: the recipe says it")
    config = CompileConfig(
        args.preset,
        args.program,
        args.image_size,
        args.batch_size,
        args.lora,
        args.config,
        tuple(args.overrides),
        args.quantize,
    )
    if args.device:
        refuse_unused(args, ["--slices"], "with --device, which is one GPU")
        reports = compile_for_card(config, args.device, low_effort=args.low_effort)
    else:
        topology = Topology.parse(args.topology, args.slices)
        reports = compile_programs(config, topology, low_effort=args.low_effort)
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        for report in reports:
            print("\n".join(report.lines()))
        if args.device:
            print(card_line(args.device, reports))
    return 0 if all(report.fits for report in reports) else EXIT_DOES_NOT_FIT


def card_line(card: str, reports: "Sequence[Report]") -> str:
    """Returns the answer to whether the programs fit a GPU, and what it rests on."""
    from ditfuse_jax.aot.compile import STAND_IN

    sizes = {r.program: r.bytes.get("total") or r.bytes.get("needed", 0) for r in reports}
    program = max(sizes, key=lambda name: sizes[name])
    verb = "fits" if all(report.fits for report in reports) else "does NOT fit"
    return (
        f"{card}: {verb}; most memory: {program}, {sizes[program] / 2**30:.1f} of "
        f"{reports[0].hbm_bytes / 2**30:.1f} GiB.  Arguments are exact; temporaries are those of "
        f"the compiler for {STAND_IN}, which takes the GPU's place: an estimate"
    )
