"""Named rematerialisation policies: what of a layer is kept for the backward pass.

From fastest to smallest: `none` keeps everything, `projections` keeps the results of the matrix
products that read weights, `attention` keeps only attention's output, `offload` moves the layer
inputs to host memory, `full` keeps the layer inputs alone and computes the rest again.
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_policies as policies

from ditfuse_jax.errors import UserError

POLICIES: dict[str, Callable | None] = {
    "projections": policies.save_only_these_names("qkv", "attention", "gate_up"),
    "attention": policies.save_only_these_names("attention"),
    "offload": policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["block_input"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "full": policies.nothing_saveable,
}
NAMES = ("none", *POLICIES)


def remat(layer: Callable, name: str) -> Callable:
    """Wraps a scanned layer function with the named policy.

    Raises:
      UserError: the name is unknown.
    """
    if name == "none":
        return layer
    if name not in POLICIES:
        raise UserError(f"remat {name!r} is unknown; choose from {', '.join(NAMES)}")
    # Inside a scan XLA cannot merge the two computations, so the costly barrier is not needed.
    return jax.checkpoint(layer, policy=POLICIES[name], prevent_cse=False)
