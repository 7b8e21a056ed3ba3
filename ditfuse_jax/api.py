"""The commands as Python calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ditfuse_jax.errors import UserError
from ditfuse_jax.lazy import lazy_attributes
from ditfuse_jax.paths import as_path

if TYPE_CHECKING:
    from ditfuse_jax.align import align_stack, estimate_alignment
    from ditfuse_jax.bench import bench
    from ditfuse_jax.convert import convert, push, verify
    from ditfuse_jax.evaluate import (
        evaluate,
        evaluate_control,
        evaluate_degraded,
        evaluate_files,
        evaluate_regions,
        evaluate_segmentation,
        evaluate_sequence,
        evaluate_suite,
        evaluate_understanding,
    )
    from ditfuse_jax.pipeline.instruct import prepare_instructions
    from ditfuse_jax.pipeline.packed_manifest import Manifest
    from ditfuse_jax.pipeline.submit import submit_prepare
    from ditfuse_jax.sample import fuse
    from ditfuse_jax.sweep import submit_sweep, sweep
    from ditfuse_jax.train import Callback, Outcome, Writer
    from ditfuse_jax.train.list_runs import list_runs
    from ditfuse_jax.train.recipe import Config

__all__ = [
    "align_stack",
    "bench",
    "convert",
    "distill",
    "estimate_alignment",
    "evaluate",
    "evaluate_control",
    "evaluate_degraded",
    "evaluate_files",
    "evaluate_regions",
    "evaluate_segmentation",
    "evaluate_sequence",
    "evaluate_suite",
    "evaluate_understanding",
    "fuse",
    "list_runs",
    "prepare",
    "prepare_instructions",
    "push",
    "submit_prepare",
    "submit_sweep",
    "sweep",
    "train",
    "verify",
]

# A command imports only what it uses.
__getattr__ = lazy_attributes(
    __name__,
    {
        "align_stack": "ditfuse_jax.align",
        "estimate_alignment": "ditfuse_jax.align",
        "bench": "ditfuse_jax.bench",
        "convert": "ditfuse_jax.convert",
        "evaluate": "ditfuse_jax.evaluate",
        "evaluate_control": "ditfuse_jax.evaluate",
        "evaluate_degraded": "ditfuse_jax.evaluate",
        "evaluate_files": "ditfuse_jax.evaluate",
        "evaluate_regions": "ditfuse_jax.evaluate",
        "evaluate_segmentation": "ditfuse_jax.evaluate",
        "evaluate_sequence": "ditfuse_jax.evaluate",
        "evaluate_suite": "ditfuse_jax.evaluate",
        "evaluate_understanding": "ditfuse_jax.evaluate",
        "fuse": "ditfuse_jax.sample",
        "list_runs": "ditfuse_jax.train.list_runs",
        "prepare_instructions": "ditfuse_jax.pipeline.instruct",
        "push": "ditfuse_jax.convert",
        "submit_prepare": "ditfuse_jax.pipeline.submit",
        "submit_sweep": "ditfuse_jax.sweep",
        "sweep": "ditfuse_jax.sweep",
        "verify": "ditfuse_jax.convert",
    },
)


def train(
    config: "str | Config",
    workdir: Path | str,
    writers: "Sequence[Writer]" = (),
    callbacks: "Sequence[Callback]" = (),
    *,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> "Outcome":
    """Trains by a recipe, evaluating as it says, or continues the run in `workdir`.

    Args:
      config: a recipe's name or file, or a config of `load_recipe`.
      workdir: the run folder.
      writers: record metrics beside those that the recipe names.
      callbacks: called after every update.
      overrides: arguments like `--config.train.steps=100`; only with a recipe's name.
      quiet: no console output.

    Raises:
      UserError: bad config, data or folder.
    """
    if any(isinstance(one, str) for one in (*writers, *callbacks)):
        raise UserError(
            "writers and callbacks are objects: changed settings are overrides=['--config...']"
        )
    from ditfuse_jax.train import load_recipe
    from ditfuse_jax.train import train as run_training

    loaded = load_recipe(config, overrides) if isinstance(config, str) else config
    return run_training(loaded, workdir, writers, callbacks, quiet=quiet)


def distill(
    teacher: Path | str,
    config: "str | Config",
    workdir: Path | str,
    writers: "Sequence[Writer]" = (),
    callbacks: "Sequence[Callback]" = (),
    *,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    quiet: bool = False,
) -> "Outcome":
    """Trains a student of a model by a recipe, or continues the run in `workdir`.

    Args:
      teacher: a model; see `weights.open_checkpoint`.
      config: a recipe's name or file, or a config of `load_recipe`; see `train.distill_from`.
      workdir: the run folder.
      writers, callbacks, quiet: see `train`.
      overrides: arguments like `--config.sample.steps=2`.
      imports: extensions to load.

    Raises:
      UserError: bad teacher, config, data or folder.
    """
    from ditfuse_jax.extensions import load_extensions
    from ditfuse_jax.train import load_recipe
    from ditfuse_jax.train.distill import distilling

    names = load_extensions(imports)
    loaded = load_recipe(config, (), names) if isinstance(config, str) else config
    loaded = distilling(loaded, str(teacher), overrides)
    return train(loaded, workdir, writers, callbacks, quiet=quiet)


def prepare(
    source: str,
    output: Path | str,
    *,
    max_side: int | None = None,
    resize: bool = False,
    autoencoder: Path | str | None = None,
    crop: tuple[int, int] | None = None,
    crops: int = 1,
    shard_size: int = 256,
    processes: int = 1,
    max_bad_fraction: float = 0.01,
    quiet: bool = False,
    task_index: int = 0,
    num_tasks: int = 1,
) -> "Manifest | None":
    """Packs a source into shards: its files, or with an autoencoder crops and their moments.

    Args:
      source: see `pipeline.open_source`.
      output: a new folder, or one that an interrupted run left.
      max_side, resize: see `FilePacker`.
      autoencoder, crop, crops: see `MomentsPacker`.
      shard_size, processes, max_bad_fraction, quiet: see `pipeline.prepare.prepare`.
      task_index, num_tasks: pack only the shards of one of several tasks.

    Returns:
      The contents of the folder, or None while other tasks have shards left.

    Raises:
      UserError: bad data, folder or arguments.
    """
    from ditfuse_jax.pipeline.packer import FilePacker
    from ditfuse_jax.pipeline.prepare import PackingTask, prepare_task

    if autoencoder is None:
        if crop is not None or crops != 1:
            raise UserError("crops are cut for an autoencoder's moments: name its folder too")
        packer = FilePacker(max_side, resize)
    else:
        if crop is None or max_side is not None or resize or processes != 1:
            raise UserError(
                "moments need the size of the crops, one process, and neither max_side nor resize"
            )
        from ditfuse_jax.convert.pack_moments import MomentsPacker
        from ditfuse_jax.weights.autoencoder import autoencoder_folder

        packer = MomentsPacker(autoencoder_folder(autoencoder).absolute(), crop, crops)
    return prepare_task(
        source,
        as_path(output),
        packer,
        PackingTask(task_index, num_tasks),
        shard_size=shard_size,
        processes=processes,
        max_bad_fraction=max_bad_fraction,
        quiet=quiet,
    )
