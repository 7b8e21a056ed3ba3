"""Fuse images that show the same scene.

  ditfuse fuse vis.png ir.png -o fused.png --checkpoint runs/nano
  ditfuse fuse DIR -o OUT --checkpoint runs/nano      (DIR/image1/*, DIR/image2/* of equal names)

A prompt may be a plain sentence, or place the images itself: "... <img><|image_1|></img> ...".
"""

import argparse
from pathlib import Path

HELP = "fuse images with a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="IMAGE", help="2..4 images, or one folder")
    add("-o", "--output", required=True, type=Path, help="a file, or a folder for several images")
    add("--checkpoint", required=True, type=Path, help="run folder of `ditfuse train`, or a step")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", help="what to do, in words")
    what.add_argument("--prompt-file", type=Path, help="UTF-8 text, a prompt per line")
    add("--task", default="fuse", help="fuse, ivif, mff or mef: standard prompts and tags")
    add_sampling_arguments(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=int, help="Euler steps (default: the model's)")
    add("--guidance", type=float, help="how far to follow the words (default: the model's)")
    add("--image-guidance", type=float, help="how far to follow the images (default: the model's)")
    add("--seed", type=int, help="of the noise (default: 0)")
    add("--max-side", type=int, help="compute longer images at this many pixels")
    add("--batch-size", type=int, help="images at a time (default: 1)")


def sampling_changes(args: argparse.Namespace) -> dict:
    names = ("steps", "guidance", "image_guidance", "seed", "max_side", "batch_size")
    return {name: getattr(args, name) for name in names}


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import fuse
    from ditfuse_jax.sample import read_prompts

    prompts = [args.prompt] if args.prompt is not None else []
    if args.prompt_file:
        prompts = read_prompts(args.prompt_file)
    fuse(
        args.inputs,
        args.output,
        checkpoint=args.checkpoint,
        prompts=prompts,
        task=args.task,
        changes=sampling_changes(args),
    )
