"""Prepare training data: pack images into shards, or write prompts for pairs of your own.

  ditfuse prepare /my/photographs -o packed/photos --max-side 512 --processes 8
  ditfuse prepare labelled:/data/camvid -o packed/camvid
  ditfuse prepare /my/photographs -o packed/latents --autoencoder OmniGen-v1/vae --crop 256,256
  ditfuse prepare /my/photographs -o gs://BUCKET/packed/photos --processes 8
  ditfuse prepare --verify packed/photos

Train on packed data with --config.data.mixture.photos.source=packed/photos.  An interrupted run
continues with the same command.

Many machines pack one folder, each every 16th shard; the bytes are those of one machine:

  ditfuse prepare /my/photographs -o packed/photos --num-tasks 16 --task-index 3
  ditfuse prepare /my/photographs -o packed/photos --num-tasks 16 --slurm launch/examples/pack.py

Your own sources and targets get prompts from instruction pools with

  ditfuse prepare --instructions ivif my_pool.yaml --images list.txt --per-image 4 -o train.jsonl

with lines like `ir/1.png,vis/1.png,fused/1.png` in the list.  The file has OmniGen's format; train
on it as source records:train.jsonl with task records (records_3: three sources).
"""

import argparse
from pathlib import Path

from ditfuse_jax.cli.unused_options import refuse_unused
from ditfuse_jax.errors import UserError

EXIT_DAMAGED = 1

# What each mode has of its own.
_PACKING = (
    *("--shard-size", "--max-side", "--resize", "--processes", "--max-bad"),
    *("--autoencoder", "--crop", "--crops"),
)
_TASKS = ("--num-tasks", "--task-index", "--slurm", "--jobset", "--dry-run")
_PROMPTS = ("--images", "--split", "--per-image", "--count", "--class", "--seed", "--instructions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", nargs="?", help="a folder, or another source by its name in a recipe")
    add("-o", "--output", help="a new folder; with --instructions a JSONL file")
    add("--shard-size", type=int, default=256, help="records per shard (default: %(default)s)")
    add("--max-side", type=int, help="scale longer images down to this many pixels")
    add("--resize", action="store_true", help="scale images to the size of their stack's first")
    add("--processes", type=int, default=1, help="parallel processes (default: %(default)s)")
    add(
        "--max-bad",
        type=float,
        default=0.01,
        help="fraction of unreadable images to accept (default: 0.01)",
    )
    latents = parser.add_argument_group(
        "crops with an autoencoder's moments, for models on latents"
    )
    latents.add_argument("--autoencoder", help="folder of the autoencoder")
    latents.add_argument("--crop", type=_size, metavar="H,W", help="size of the crops")
    latents.add_argument(
        "--crops", type=int, default=1, help="crops of each photograph (default: 1)"
    )
    add("--verify", metavar="DIR", help="compare packed data with its manifest")
    several = parser.add_argument_group("several tasks pack one folder").add_argument
    several("--num-tasks", type=int, metavar="N", help="number of tasks (default: 1)")
    several(
        "--task-index",
        type=int,
        metavar="I",
        help="number of this task, from 0 (default: SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX)",
    )
    several("--slurm", type=Path, metavar="JOB", help="submit an array with this launch/ file")
    several(
        "--jobset", type=Path, metavar="JOB", help="submit an Indexed Job with this launch/ file"
    )
    several("--dry-run", action="store_true", help="only show what would be submitted")
    prompts = parser.add_argument_group("prompts for pairs").add_argument
    prompts("--instructions", nargs="+", metavar="POOL", help="names of pools, or YAML files")
    prompts("--images", metavar="LIST", help="per line the sources, then the target")
    prompts("--split", default="train", help="part of the pools: train or heldout")
    prompts("--per-image", type=int, metavar="N", help="prompts for every line (default: 1)")
    prompts("--count", type=int, metavar="N", help="prompts in all")
    prompts("--class", dest="class_name", metavar="NAME", help="replaces {class} in the prompts")
    prompts("--seed", type=int, default=0, help="seed of the choice (default: %(default)s)")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.split(","))
    except ValueError:
        raise UserError(f"--crop {text}: give height and width, e.g. 256,256") from None
    return height, width


def run(args: argparse.Namespace) -> int:
    from ditfuse_jax.api import prepare
    from ditfuse_jax.pipeline.prepare import verify
    from ditfuse_jax.pipeline.submit import task_index

    if args.verify is not None:
        if args.source or args.output:
            raise UserError("--verify takes a packed folder and nothing else")
        refuse_unused(args, (*_PACKING, *_TASKS, *_PROMPTS), "with --verify")
        return 0 if verify(args.verify) else EXIT_DAMAGED
    if args.instructions is not None:
        refuse_unused(args, (*_PACKING, *_TASKS), "with --instructions, which packs nothing")
        return _write_prompts(args)
    refuse_unused(args, _PROMPTS, "without --instructions POOL")
    if args.source is None or args.output is None:
        raise UserError("give a source and -o OUTPUT, or --verify DIR, or --instructions POOL")
    if args.slurm or args.jobset or args.dry_run:
        return _submit(args)
    num_tasks = 1 if args.num_tasks is None else args.num_tasks
    index = task_index(args.task_index, num_tasks)
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
        task_index=index,
        num_tasks=num_tasks,
    )
    if manifest is None:
        print(
            f"task {index} of {num_tasks} has packed its shards; other tasks have shards left or "
            f"too many unreadable files, and the last one writes the manifest: {args.output}"
        )
        return 0
    size = sum(shard.bytes for shard in manifest.shards)
    count = len(manifest.shards)
    print(f"{manifest.records} records, {size / 1e6:.1f} MB in {count} shards: {args.output}")
    return 0


def _submit(args: argparse.Namespace) -> int:
    from ditfuse_jax.api import submit_prepare

    if bool(args.slurm) == bool(args.jobset) or args.num_tasks is None:
        raise UserError(
            "to submit tasks, give --num-tasks N and either --slurm JOB or --jobset JOB"
        )
    if args.task_index is not None:
        raise UserError("--task-index is for one task; the cluster numbers those it starts")
    crop = None if args.crop is None else ",".join(map(str, args.crop))
    options = {
        "shard-size": args.shard_size,
        "max-side": args.max_side,
        "resize": args.resize,
        "processes": args.processes,
        "max-bad": args.max_bad,
        "autoencoder": args.autoencoder,
        "crop": crop,
        "crops": args.crops,
    }
    return submit_prepare(
        args.source,
        args.output,
        options,
        num_tasks=args.num_tasks,
        target="slurm" if args.slurm else "jobset",
        description=args.slurm or args.jobset,
        imports=args.imports,
        dry_run=args.dry_run,
    )


def _write_prompts(args: argparse.Namespace) -> int:
    from ditfuse_jax.pipeline.instruct import prepare_instructions

    if args.source or args.images is None or args.output is None:
        raise UserError("--instructions takes pools, --images LIST and -o OUTPUT, and no source")
    records = prepare_instructions(
        args.instructions,
        args.images,
        args.output,
        split=args.split,
        per_image=args.per_image,
        count=args.count,
        class_name=args.class_name,
        seed=args.seed,
    )
    prompts = {record.instruction for record in records}
    print(f"{len(records)} records with {len(prompts)} prompts: {args.output}")
    return 0
