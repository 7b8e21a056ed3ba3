"""Named rematerialisation policies: what of a layer is kept for the backward pass.

From fastest to smallest: `none` keeps everything, `projections` keeps the results of attention and
of the matrix products that read weights, but for the last, which nothing needs again; `attention`
keeps only attention's, `offload` moves the layer inputs to host memory, `full` keeps the layer
inputs alone and computes the rest again.

Attention names what is kept of it (`checkpoint_attention`).  `cpu` and `splash`, whose backward
passes are their own, name the log-sum-exp, too: without it their forward pass would run again, as
cuDNN's does, which lets nobody name it, and as attention over a spread sequence does on purpose
(`model.attention.context_parallel`).
"""

from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.ad_checkpoint import checkpoint_policies as policies

from ditfuse_jax.errors import UserError

ATTENTION = "attention"
# What the policies that go by names keep of a layer on the device, beside its input.
KEPT_NAMES = {
    "projections": ("qkv", ATTENTION, "o_proj", "gate_up"),
    "attention": (ATTENTION,),
}

POLICIES: dict[str, Callable | None] = {
    **{name: policies.save_only_these_names(*kept) for name, kept in KEPT_NAMES.items()},
    "offload": policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["block_input"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "full": policies.nothing_saveable,
}
NAMES = ("none", *POLICIES)


def checkpoint_attention(x: jax.Array) -> jax.Array:
    """Marks attention's output, or a log-sum-exp, as what `projections` and `attention` keep."""
    return checkpoint_name(x, ATTENTION)


def remat(layer: Callable, name: str, *, in_loop: bool = True) -> Callable:
    """Wraps a layer function with the named policy.

    Args:
      layer: the function.
      name: a name in `NAMES`.
      in_loop: it is the body of a scan.

    Raises:
      UserError: the name is unknown.
    """
    if name == "none":
        return layer
    if name not in POLICIES:
        raise UserError(f"remat {name!r} is unknown; choose from {', '.join(NAMES)}")
    # Inside a scan XLA cannot merge the two computations, so the costly barrier is not needed.
    return jax.checkpoint(layer, policy=POLICIES[name], prevent_cse=not in_loop)
