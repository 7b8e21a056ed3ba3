"""Weights that a run starts from, named so that the name keeps its meaning.

An address on the Hub is recorded with its commit, and a run with its step: a branch moves, and a
run goes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.hub import HubAddress
from ditfuse_jax.parallel.processes import from_main_process
from ditfuse_jax.paths import is_remote, same_folder
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.weights.bundle import find_bundle
from ditfuse_jax.weights.run_paths import CHECKPOINTS, find_checkpoint, is_run


def with_pinned_addresses(config: Config) -> Config:
    """Returns a config whose addresses on the Hub name the commits that they mean now.

    Runs that it takes weights from are named with their steps.  All processes get the same commits
    and steps, and the run folder records them.

    Args:
      config: a recipe, locked or not.

    Raises:
      UserError: an address is wrong, or the Hub cannot be reached.
    """
    values = [
        *((section, name, _pinned(section[name])) for section, name in _addresses(config)),
        *((section, name, pinned_weights(section[name])) for section, name in _weights(config)),
    ]
    if all(section[name] == value for section, name, value in values):
        return config
    pinned = config.copy_and_resolve_references()
    places = [*_addresses(pinned), *_weights(pinned)]
    for (section, name), (_, _, value) in zip(places, values, strict=True):
        with section.unlocked():
            section[name] = value
    if config.is_locked:
        pinned.lock()
    return pinned


def check_same_weights(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Refuses to continue adapters around other weights: a branch has moved, or a run has gone on.

    Weights that were moved to another folder are not taken for others.

    Args:
      saved: the checkpoint's config.
      config: of the run that continues, with pinned addresses.
      path: of the run, for the message.

    Raises:
      UserError: naming both commits, steps or folders.
    """
    old, new = str(saved.get("weights", "")), config.weights
    if not config.lora.rank or not old or old == new or hub.is_address(old) != hub.is_address(new):
        return
    if hub.is_address(old):
        if HubAddress.parse(old).repository == HubAddress.parse(new).repository:
            raise UserError(
                f"{path} adapts {old}, which is now {new}: name the commit, as in --config "
                f"omnigen_lora:{old}, or use another --workdir"
            )
    elif not _same_folder_of_weights(find_bundle(old), find_bundle(new)):
        raise UserError(
            f"{path} adapts the weights in {old}, and the base is now {new}: name the former (of a "
            "run RUN/checkpoints/STEP), or use another --workdir"
        )


def pinned_weights(path: str) -> str:
    """Returns an address with its commit, and a path to a run with the step that it means now.

    Any other path is returned as it is.

    Raises:
      UserError: the address is wrong, the Hub cannot be reached, or the run has no checkpoint.
    """
    if hub.is_address(path):
        return _pinned(path)
    if not path or not is_run(find_bundle(path)):
        return path
    return from_main_process(path, lambda: _step_folder(path))


def _step_folder(path: str) -> str:
    run, step = find_checkpoint(find_bundle(path))
    return hub.recorded(run / CHECKPOINTS / str(step))


def _same_folder_of_weights(old: Path, new: Path) -> bool:
    """Whether two local folders hold the same weights, as far as their names tell."""
    if same_folder(old, new) or is_remote(old) != is_remote(new):
        return True
    steps = [folder.parent.name == CHECKPOINTS for folder in (old, new)]
    if all(steps) and old.name != new.name:
        return False
    if steps == [False, True] and same_folder(old, new.parent.parent):
        return True  # version 0.1 recorded a run without the step, so it is not known
    return not old.exists()


def _addresses(config: Config) -> list[tuple[Config, str]]:
    """Returns the sections and keys whose values may be addresses on the Hub."""
    return [(config, "autoencoder"), (config.lora, "adapter"), (config.data, "tokenizer")]


def _weights(config: Config) -> list[tuple[Config, str]]:
    """Returns the sections and keys whose values are addresses or paths of weights."""
    return [(config, "weights"), (config.distill, "teacher")]


def _pinned(path: str) -> str:
    """Returns an address on the Hub with its commit, the same one in all processes."""
    return from_main_process(path, lambda: hub.pinned(path)) if hub.is_address(path) else path
