"""Named rematerialisation policies: which values of a layer are saved for the backward pass.

From fastest to smallest memory:

* `none` saves everything;
* `projections` saves the outputs of attention and of the products with weights, except the last
  one, which the backward pass does not need;
* `attention` saves attention's output;
* `offload` moves the layers' inputs to host memory;
* `full` saves the layers' inputs only.

With `auto` a training takes the first of them whose step fits its devices (`train.choose_remat`);
where nobody has chosen, as in sampling, it is `none`.

Everything else is computed again.  Attention marks its output with `checkpoint_attention`.  The
`xla` implementation on a CPU and `splash`, which define their own backward pass, mark the
log-sum-exp too; otherwise their forward pass would run again.  It does run again with cuDNN, whose
log-sum-exp cannot be marked, and with context parallelism, where it is intended (see
`attention.context_parallel`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.ad_checkpoint import checkpoint_policies as policies

from ditfuse_jax.registry import Registry

ATTENTION = "attention"
BLOCK_INPUT = "block_input"


@dataclasses.dataclass(frozen=True)
class RematPolicy:
    """What a layer saves for the backward pass.

    Attributes:
      policy: for `jax.checkpoint`; None disables rematerialisation.
      saved: names of the layer's values that stay in device memory (`transformer` marks them with
        `checkpoint_name`); None if everything is saved.
    """

    policy: Callable[..., Any] | None
    saved: tuple[str, ...] | None


def _save(*names: str) -> RematPolicy:
    # A scan over the layers saves their inputs in any case.
    return RematPolicy(policies.save_only_these_names(*names), (BLOCK_INPUT, *names))


AUTO = "auto"
REMAT_POLICIES: Registry[RematPolicy] = Registry(
    "model.remat",
    {
        AUTO: RematPolicy(None, None),
        "none": RematPolicy(None, None),
        "projections": _save("qkv", ATTENTION, "o_proj", "gate_up"),
        "attention": _save(ATTENTION),
        "offload": RematPolicy(
            policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=[BLOCK_INPUT],
                offload_src="device",
                offload_dst="pinned_host",
            ),
            (),
        ),
        "full": RematPolicy(policies.nothing_saveable, (BLOCK_INPUT,)),
    },
)


def checkpoint_attention(x: jax.Array) -> jax.Array:
    """Marks attention's output or log-sum-exp as saved by `projections` and `attention`."""
    return checkpoint_name(x, ATTENTION)


def remat(layer: Callable, name: str, *, in_scan: bool = True) -> Callable:
    """Applies a rematerialisation policy to a layer function.

    Args:
      layer: the function.
      name: a name in `REMAT_POLICIES`.
      in_scan: whether the function is the body of a scan.

    Raises:
      UserError: the name is unknown.
    """
    policy = REMAT_POLICIES.find(name).policy
    if policy is None:
        return layer
    # Inside a scan XLA cannot merge the two computations, so the costly barrier is not needed.
    return jax.checkpoint(layer, policy=policy, prevent_cse=not in_scan)
