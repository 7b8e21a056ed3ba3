"""Pack images for training: shards that are read without opening a file per image.

  ditfuse prepare /my/photographs -o packed/photos --max-side 512 --processes 8
  ditfuse prepare labelled:/data/camvid -o packed/camvid
  ditfuse prepare /my/photographs -o packed/latents --autoencoder OmniGen-v1/vae --crop 256,256
  ditfuse prepare --verify packed/photos

Train on what was packed: --config.data.mixture.photos.source=packed/photos.  An interrupted run
goes on with the same command.
"""

import argparse
from pathlib import Path

from ditfuse_jax.errors import UserError

HELP = "pack images into shards, or check what was packed"

EXIT_DAMAGED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", nargs="?", help="a folder, or another source by its name in a recipe")
    add("-o", "--output", type=Path, help="a new folder")
    add("--shard-size", type=int, default=256, help="records per shard (default: %(default)s)")
    add("--max-side", type=int, help="scale longer images down to this many pixels")
    add("--resize", action="store_true", help="scale images to the size of their stack's first")
    add("--processes", type=int, default=1, help="that pack at once (default: %(default)s)")
    add("--max-bad", type=float, default=0.01, help="share that may be unreadable (default: 0.01)")
    latents = parser.add_argument_group(
        "crops with an autoencoder's moments, for models on latents"
    )
    latents.add_argument("--autoencoder", type=Path, help="its folder")
    latents.add_argument("--crop", type=_size, metavar="H,W", help="size of the crops")
    latents.add_argument("--crops", type=int, default=1, help="of each photograph (default: 1)")
    add("--verify", type=Path, metavar="DIR", help="compare packed data with its manifest")


def _size(text: str) -> tuple[int, int]:
    height, width = (int(side) for side in text.split(","))
    return height, width


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.api import prepare
    from ditfuse_jax.pipeline.prepare import verify

    if args.verify is not None:
        if args.source or args.output:
            raise UserError("--verify takes a packed folder and nothing else")
        return 0 if verify(args.verify) else EXIT_DAMAGED
    if args.source is None or args.output is None:
        raise UserError("give a source and -o OUTPUT, or --verify DIR")
    manifest = prepare(
        args.source,
        args.output,
        max_side=args.max_side,
        resize=args.resize,
        autoencoder=args.autoencoder,
        crop=args.crop,
        crops=args.crops,
        shard_size=args.shard_size,
        processes=args.processes,
        max_bad_fraction=args.max_bad,
    )
    records = sum(len(shard.names) for shard in manifest.shards)
    size = sum(shard.bytes for shard in manifest.shards)
    print(f"{records} records, {size / 1e6:.1f} MB in {len(manifest.shards)} shards: {args.output}")
    return 0
