"""`model.attention=auto`: the implementation for a device, a type and a head dimension.

* TPUs from v4 on: `splash`.
* NVIDIA GPUs from Ampere on, in bfloat16: `cudnn_split`.  It computes only pairs that attend to
  each other, without a bias except for the few text tokens; `cudnn` computes all pairs and reads a
  bias for each.  Where the additional channel of `cudnn_split` exceeds the largest head dimension
  of cuDNN, `cudnn`.
* Everything else (CPUs, float32 on GPUs, head dimensions that cuDNN does not take): `xla`.

Neither GPU kernel was timed on a GPU; `python -m ditfuse_jax.bench.device` measures both.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.model.attention import cudnn, splash, xla
from ditfuse_jax.model.attention.mask import AttentionMask
from ditfuse_jax.model.logical_axes import activation_sharding

AUTO = "auto"
_FUNCTIONS = {
    "xla": xla.attend,
    "splash": splash.attend,
    "cudnn": cudnn.attend,
    "cudnn_split": cudnn.attend_split,
}
# Implementations that run on one platform only, or there alone at full speed.
_PLATFORMS = {"splash": "tpu", "cudnn": "gpu", "cudnn_split": "gpu"}
# Pallas, in which splash attention is written, does not compile for these.
_WITHOUT_PALLAS = ("TPU v2", "TPU v3")


@dataclasses.dataclass(frozen=True)
class AttentionChoice:
    """An implementation and why it was chosen.

    Attributes:
      name: a name in `IMPLEMENTATIONS`.
      reason: what decided, in a few words.
    """

    name: str
    reason: str


def choose_attention(device: Any, dtype: Any, head_dim: int) -> AttentionChoice:
    """Returns the implementation for a device.

    Args:
      device: a JAX device; of a topology that programs are only compiled for, too.
      dtype: of the queries.
      head_dim: d.
    """
    kind = getattr(device, "device_kind", device.platform)
    if device.platform == "tpu":
        if kind.startswith(_WITHOUT_PALLAS):
            return AttentionChoice("xla", f"{kind} cannot run splash attention")
        return AttentionChoice("splash", kind)
    if device.platform != "gpu":
        return AttentionChoice("xla", kind)
    if jnp.dtype(dtype) != jnp.bfloat16:
        return AttentionChoice("xla", f"{kind}, and cuDNN's attention needs model.dtype=bfloat16")
    if not cudnn.available():
        return AttentionChoice("xla", f"{kind}, and JAX's CUDA plugin is not installed")
    capability = float(getattr(device, "compute_capability", "") or 0)
    if capability < 8.0:
        return AttentionChoice("xla", f"{kind}, which is older than cuDNN's attention")
    largest = cudnn.largest_head_dim(capability)
    if cudnn.split_head_dim(head_dim) <= largest:
        return AttentionChoice("cudnn_split", f"{kind}, bfloat16")
    if head_dim <= largest and head_dim % cudnn.CHANNELS == 0:
        return AttentionChoice(
            "cudnn", f"{kind}, bfloat16; cudnn_split has no room beside head dimension {head_dim}"
        )
    return AttentionChoice(
        "xla",
        f"{kind}: cuDNN's attention takes head dimensions that are multiples of {cudnn.CHANNELS} "
        f"up to {largest}, not {head_dim}",
    )


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`."""
    place = activation_sharding(("batch",), q.shape[:1])
    device = jax.devices()[0] if place is None else next(iter(place.device_set))
    return _FUNCTIONS[choose_attention(device, q.dtype, q.shape[-1]).name](q, k, v, mask, key_valid)


def for_device(name: str, device: Any) -> str:
    """Returns an implementation's name, or `auto` if it is made for devices of another kind.

    A model that was trained on a TPU is used on a GPU or a CPU in this way.
    """
    return name if _PLATFORMS.get(name, device.platform) == device.platform else AUTO
