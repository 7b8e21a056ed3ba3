"""Fuse images that show the same scene.

  ditfuse fuse vis.png ir.png -o fused.png --task ivif          (with the bundled model)
  ditfuse fuse vis.png ir.png -o brighter.png --task light+
  ditfuse fuse DIR -o OUT --checkpoint runs/nano      (DIR/image1/*, DIR/image2/* of equal names)
  ditfuse fuse a.png b.png -o c.png --checkpoint OmniGen-v1 --lora ADAPTER=0.8

A prompt may be a plain sentence, or place the images itself: "... <img><|image_1|></img> ...".
"""

import argparse
from pathlib import Path
from typing import Any

HELP = "fuse images with a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="IMAGE", help="2..4 images, or one folder")
    add("-o", "--output", required=True, type=Path, help="a file, or a folder for several images")
    add_model_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", help="what to do, in words")
    what.add_argument("--prompt-file", type=Path, help="UTF-8 text, a prompt per line")
    add(
        "--task",
        default="fuse",
        help="standard prompts and tags: fuse, ivif, mff, mef; light++, light+, light-, light--, "
        "contrast+, contrast-; segment:CLASS, like segment:car",
    )
    add("--resize", action="store_true", help="scale images to the first one's size")
    add_sampling_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        help="small (bundled), run folder, RUN@best, a step, or OmniGen's",
    )
    add("--lora", action="append", default=[], metavar="DIR[=WEIGHT]", help="adapter to merge")
    add("--base", type=Path, help="where the weights under a run's adapters are, if moved")


def model_words(args: argparse.Namespace) -> dict[str, Any]:
    from ditfuse_jax.sample import WeightedAdapter

    return {
        "checkpoint": args.checkpoint,
        "adapters": [WeightedAdapter.parse(text) for text in args.lora],
        "base": args.base,
    }


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=int, help="Euler steps (default: the model's)")
    add("--guidance", type=float, help="how far to follow the words (default: the model's)")
    add("--image-guidance", type=float, help="how far to follow the images (default: the model's)")
    add("--seed", type=int, help="of the noise (default: 0)")
    add("--max-side", type=int, help="compute longer images at this many pixels")
    add("--tile", type=int, help="cut larger images into tiles of this side; 0 never cuts")
    add("--global-steps", type=int, help="steps that an image in tiles takes as a whole, in small")
    add("--batch-size", type=int, help="images at a time (default: 1)")


def sampling_changes(args: argparse.Namespace) -> dict:
    names = ("steps", "guidance", "image_guidance", "seed", "max_side", "tile", "global_steps")
    return {name: getattr(args, name) for name in (*names, "batch_size")}


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import fuse
    from ditfuse_jax.sample import read_prompts
    from ditfuse_jax.weights import SHIPPED

    prompts = [args.prompt] if args.prompt is not None else []
    if args.prompt_file:
        prompts = read_prompts(args.prompt_file)
    words = model_words(args)
    words["checkpoint"] = args.checkpoint or Path(SHIPPED)
    fuse(
        args.inputs,
        args.output,
        **words,
        prompts=prompts,
        task=args.task,
        changes=sampling_changes(args),
        resize=args.resize,
    )
