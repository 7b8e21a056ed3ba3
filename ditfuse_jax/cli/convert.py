"""Convert weights and adapters, or compare with the numbers of the original code.

ditfuse convert OmniGen-v1 -o weights/omnigen          (OmniGen's or diffusers' layout)
ditfuse convert weights/omnigen -o OmniGen-back        (original names, bit for bit)
ditfuse convert ADAPTER --base weights/omnigen -o runs/adapter        (PEFT folder)
ditfuse convert runs/lora -o ADAPTER                   (an adapter trained here, for PEFT)
ditfuse convert OmniGen-v1 --lora ADAPTER=0.8 --lora OTHER -o weights/merged
ditfuse convert runs/mine --to bundle --dtype bfloat16 -o mine    (a bundle: a few files to share)
ditfuse convert OmniGen-v1 --quantize nf4 -o weights/omnigen_nf4      (to use, not to train)
ditfuse convert small --to onnx -o DIR                 (a graph, and an example without JAX)
ditfuse convert runs/mine -o mine --push hf://me/mine --dry-run   (with a model card, to be read)
ditfuse convert mine --push hf://me/mine               (uploads the folder)
ditfuse convert --verify DIR                           (DIR like tests/golden/official_tiny)
"""

import argparse

from ditfuse_jax.cli.unused_options import refuse_unused
from ditfuse_jax.paths import as_path, model_path

EXIT_MISMATCH = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", nargs="?", type=model_path, help="weights or an adapter, in any layout")
    add("-o", "--output", type=as_path, help="a new folder")
    add(
        "--to",
        metavar="LAYOUT",
        help="run, omnigen, peft, bundle, onnx or a registered one (default: by the source)",
    )
    add("--base", type=model_path, help="weights under a PEFT adapter")
    add("--lora", action="append", default=[], metavar="DIR[=WEIGHT]", help="adapter to merge")
    add("--dtype", help="float32, bfloat16 or float16 (default: as stored)")
    add("--quantize", metavar="int8|nf4", help="keep the layers' kernels in 8 or 4 bits")
    add("--push", metavar="hf://OWNER/NAME", help="write a model card and upload the output")
    add("--private", action="store_true", help="a repository that --push creates is private")
    add("--dry-run", action="store_true", help="show what --push would upload")
    add("--verify", type=as_path, metavar="DIR", help="compare with the reference numbers in DIR")


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.api import convert, push, verify
    from ditfuse_jax.errors import UserError
    from ditfuse_jax.hub import check_login
    from ditfuse_jax.sample.trained import WeightedAdapter

    if args.verify is not None:
        if args.source or args.output or args.push:
            raise UserError("--verify excludes a source, --output and --push")
        unused = ("--to", "--base", "--lora", "--dtype", "--quantize", "--private", "--dry-run")
        refuse_unused(args, unused, "with --verify")
        return 0 if verify(args.verify) else EXIT_MISMATCH
    if args.source is None or (args.output is None and not args.push):
        raise UserError("give a source and -o OUTPUT, or --verify DIR")
    if (args.private or args.dry_run) and not args.push:
        raise UserError("--private and --dry-run are for --push hf://OWNER/NAME")
    if args.output is None:  # a folder that was converted before
        if args.to or args.base or args.lora or args.dtype or args.quantize:
            raise UserError(
                "a conversion needs -o OUTPUT; without it --push uploads SOURCE as it is"
            )
        push(args.source, args.push, private=args.private, dry_run=args.dry_run)
        return 0
    if args.push and not args.dry_run:
        check_login(args.push)  # before the conversion, which may take long
    written = convert(
        args.source,
        args.output,
        to=args.to,
        base=args.base,
        adapters=[WeightedAdapter.parse(text) for text in args.lora],
        dtype=args.dtype,
        quantize=args.quantize,
        push=args.push or "",
    )
    print(f"written: {written}")
    if args.push:
        push(written, args.push, private=args.private, dry_run=args.dry_run)
    return 0
