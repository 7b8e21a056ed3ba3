"""The licence of weights: a file `LICENSE` beside them."""

from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.weights.bundle import find_bundle
from ditfuse_jax.weights.checkpoint import Checkpoint
from ditfuse_jax.weights.run_paths import CHECKPOINTS, resolve_best

LICENSE = "LICENSE"


def find_license(checkpoint: Checkpoint) -> Path | None:
    """Returns the licence of weights: their own, or that of the weights they were trained from.

    Raises:
      UserError: the weights are on the Hub, which cannot be reached; or a run has no best step.
    """
    for path in (checkpoint.path, checkpoint.base, (checkpoint.config or {}).get("weights")):
        if not path:
            continue
        if hub.is_address(path):
            if found := hub.download_file(path, LICENSE):
                return found
            continue
        folder = resolve_best(find_bundle(path))
        # A step folder lies two levels below its run folder.
        is_step = folder.parent.name == CHECKPOINTS
        for candidate in (folder, folder.parent.parent) if is_step else (folder,):
            if (candidate / LICENSE).is_file():
                return candidate / LICENSE
    return None
