"""The commands as Python calls."""

from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.bench import bench
from ditfuse_jax.convert import convert, verify
from ditfuse_jax.evaluate import HeldOut, evaluate, evaluate_files
from ditfuse_jax.pipeline.instruct import prepare_instructions
from ditfuse_jax.pipeline.prepare import prepare
from ditfuse_jax.sample import fuse
from ditfuse_jax.train import Outcome, load_recipe, resolve
from ditfuse_jax.train import train as run_training
from ditfuse_jax.train.recipe import Config

__all__ = [
    "bench",
    "convert",
    "evaluate",
    "evaluate_files",
    "fuse",
    "prepare",
    "prepare_instructions",
    "train",
    "verify",
]


def train(
    config: str | Config,
    workdir: Path | str,
    overrides: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> Outcome:
    """Trains by a recipe, evaluating on held-out examples, or continues the run in `workdir`.

    Args:
      config: a recipe's name or file, or a config of `load_recipe`.
      workdir: the run folder.
      overrides: words like `--config.train.steps=100`; only with a recipe's name.
      quiet: no console output.

    Raises:
      UserError: bad config, data or folder.
    """
    loaded = load_recipe(config, overrides) if isinstance(config, str) else config
    recipe = resolve(loaded)
    return run_training(loaded, workdir, [HeldOut(recipe)], quiet=quiet)
