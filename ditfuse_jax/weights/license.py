"""The licence of weights: a file `LICENSE` beside them."""

from pathlib import Path

from ditfuse_jax.weights.bundle import find_bundle
from ditfuse_jax.weights.checkpoint import Checkpoint

LICENSE = "LICENSE"


def find_license(checkpoint: Checkpoint) -> Path | None:
    """Returns the licence of weights: their own, or that of the weights they were trained from."""
    started_from = (checkpoint.config or {}).get("weights")
    folders = [checkpoint.path, checkpoint.base, started_from and find_bundle(started_from)]
    for folder in filter(None, folders):
        # A step folder lies two levels below its run folder.
        for candidate in (folder, folder.parent.parent):
            if (candidate / LICENSE).is_file():
                return candidate / LICENSE
    return None
