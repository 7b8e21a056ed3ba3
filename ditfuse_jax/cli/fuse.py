"""Fuse images that show the same scene.

  ditfuse fuse vis.png ir.png -o fused.png --task ivif          (with the bundled model)
  ditfuse fuse vis.png ir.png -o brighter.png --task light+
  ditfuse fuse VIS IR -o OUT                          (folders of images with equal names)
  ditfuse fuse vis.png ir.png -o fused.png --task ivif --align  (two cameras, not registered)
  ditfuse fuse vis.png ir.png -o out.png --adjust brightness=+2 --region mask.png
  ditfuse fuse DIR -o OUT --checkpoint runs/nano      (DIR/image1/*, DIR/image2/* of equal names)
  ditfuse fuse a.png b.png -o c.png --checkpoint OmniGen-v1 --lora ADAPTER=0.8
  ditfuse fuse vis.mp4 ir.mp4 -o fused.mp4 --task ivif          (videos, or folders of frames)
  ditfuse fuse VIS IR -o fused.mp4 --fps 25 --task ivif         (folders into a video)

Of folders, what cannot be fused is listed at the end, with exit code 2; the same command again
fuses only what is missing or has changed.  A video that was interrupted is continued by it.

A prompt may be a plain sentence, or place the images itself: "... <img><|image_1|></img> ...".
"""

import argparse
from pathlib import Path

from ditfuse_jax.cli.model_options import (
    add_align_option,
    add_model_options,
    add_range_option,
    add_sampling_options,
    model_arguments,
    sampling_overrides,
)
from ditfuse_jax.paths import as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=as_path,
        metavar="IMAGE",
        help="2..4 images, videos or folders, or one folder",
    )
    add(
        "-o",
        "--output",
        required=True,
        type=as_path,
        help="a file, a video (.mp4 .mov .mkv .avi), or a folder for several images",
    )
    add_model_options(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", help="what to do, in plain words")
    what.add_argument("--prompt-file", type=as_path, help="UTF-8 text, a prompt per line")
    add(
        "--task",
        default="fuse",
        help="standard prompts and tags: fuse, ivif, mff, mef; light++, light+, light-, light--, "
        "contrast+, contrast-; segment:CLASS, like segment:car",
    )
    add(
        "--adjust",
        action="append",
        default=[],
        metavar="AXIS=LEVEL",
        help="brightness, contrast, saturation or detail from -2 to +2, like brightness=+1, or of "
        "a class only, like road:contrast=-2; may be repeated",
    )
    add(
        "--emphasis",
        action="append",
        default=[],
        metavar="SOURCE=LEVEL",
        help="follow a source more or less, like infrared=+1",
    )
    add(
        "--region",
        metavar="MASK|FOLDER|CLASS",
        help="where the request applies, fused plainly elsewhere: an image, white there; a folder "
        "of such images with the names of the pairs; or a class that the model marks, like road",
    )
    add(
        "--feather",
        type=float,
        metavar="PIXELS",
        help="width of the region's soft border (default: 2 %% of the shorter side)",
    )
    add("--resize", action="store_true", help="scale images to the first one's size")
    add_range_option(parser)
    add("--recursive", action="store_true", help="search folders inside the folders too")
    add("--fps", type=float, metavar="RATE", help="of videos: frames per second of folders")
    add(
        "--pairing",
        choices=("number", "shortest", "time"),
        default="number",
        help="of videos: frame n with frame n, of equal number and rate (default); up to the end "
        "of the shortest; or each frame of the first with the nearest in time of the others",
    )
    add(
        "--reuse",
        type=int,
        metavar="FRAMES",
        help="of videos: frames for which what the transformer computed of a tile is used where "
        "its sources do not change (default: 8; 1: afresh for every frame, slower)",
    )
    add(
        "--smoothing",
        type=float,
        metavar="SHARE",
        help="of videos: share of the frame before where nothing moves (default: 0.3; 0: none)",
    )
    add_align_option(parser)
    add(
        "--align-save",
        type=as_path,
        metavar="FILE",
        help="estimate one warp over all pairs of fixed cameras, use it and save it",
    )
    add(
        "--depth",
        type=int,
        choices=(8, 16),
        help="bits of the written PNG or TIFF (default: 16 if a source has more than 8)",
    )
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> None:
    from ditfuse_jax.api import fuse
    from ditfuse_jax.prompts.requests import parse_adjustment
    from ditfuse_jax.sample import read_prompts
    from ditfuse_jax.weights import SHIPPED

    prompts = [args.prompt] if args.prompt is not None else []
    if args.prompt_file:
        prompts = read_prompts(args.prompt_file)
    model = model_arguments(args)
    model["checkpoint"] = args.checkpoint or Path(SHIPPED)
    fuse(
        args.inputs,
        args.output,
        **model,
        prompts=prompts,
        task=args.task,
        adjustments=[parse_adjustment(text) for text in (*args.adjust, *args.emphasis)],
        sampling=sampling_overrides(args),
        resize=args.resize,
        value_range=args.range or "auto",
        recursive=args.recursive,
        depth=args.depth,
        align=args.align,
        align_save=args.align_save,
        region=args.region,
        feather=args.feather,
        fps=args.fps,
        pairing=args.pairing,
        reuse=args.reuse,
        smoothing=args.smoothing,
    )
