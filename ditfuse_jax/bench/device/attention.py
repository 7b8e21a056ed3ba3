"""Attention kernels: against the reference, forward and backward, and their times."""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.bench.device.outcome import CheckFailed, NotApplicable
from ditfuse_jax.bench.device.plan import SMALL, Scale
from ditfuse_jax.bench.measurement import time_repeats
from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import AttentionMask, attend, auto

# Largest relative error (Euclidean norms) of results and gradients.  A bfloat16 number has 8
# significant bits, so rounding inputs of the products once alone gives about 0.003.
TOLERANCE = {"bfloat16": 0.02, "float32": 1e-4}


def inputs(scale: Scale, side: int) -> tuple[AttentionMask, tuple[np.ndarray, ...]]:
    """Returns the mask of a training sequence of two images, and q, k, v, validity and a cotangent.

    Arrays are float32 (1, N, H, d); half of the first text slot is padding.
    """
    tokens = side // scale.pixels_per_token
    mask = Layout(scale.text_slots, (tokens, tokens)).full_mask
    random = np.random.default_rng(0)
    shape = (1, mask.num_queries, scale.heads, scale.head_dim)
    q, k, v, cotangent = (random.standard_normal(shape, np.float32) for _ in range(4))
    valid = np.ones((1, mask.num_keys), bool)
    valid[:, scale.text_slots[0] // 2 : scale.text_slots[0]] = False
    return mask, (q, k, v, valid, cotangent)


def check(scale: Scale, implementation: str, side: int) -> dict[str, Any]:
    """Compares result and gradients with the reference in float32, from the same rounded inputs.

    Raises:
      CheckFailed: an error exceeds the tolerance.
      NotApplicable: the kernel is for another device.
    """
    _check_platform(scale, implementation)
    mask, arrays = inputs(scale, side)
    *arrays, cotangent = arrays
    q, k, v = (jnp.asarray(x, scale.dtype) for x in arrays[:3])
    found = _with_gradients(implementation, mask)(q, k, v, arrays[3], cotangent)
    with jax.default_matmul_precision("highest"):
        exact = [x.astype(jnp.float32) for x in (q, k, v)]
        expected = _with_gradients("reference", mask)(*exact, arrays[3], cotangent)
    errors = {
        name: _relative_error(ours, theirs)
        for name, ours, theirs in zip(("out", "dq", "dk", "dv"), found, expected, strict=True)
    }
    values = {f"error of {name}": error for name, error in errors.items()}
    tolerance = TOLERANCE[scale.dtype]
    wrong = [name for name, error in errors.items() if not error <= tolerance]
    if wrong:
        raise CheckFailed(f"{', '.join(wrong)}: more than {tolerance} from the reference", values)
    return values


def time_kernel(scale: Scale, implementation: str, side: int) -> dict[str, Any]:
    """Times one layer's attention for one example, forward alone and with gradients."""
    _check_platform(scale, implementation)
    mask, arrays = inputs(scale, side)
    q, k, v, cotangent = (jnp.asarray(x, scale.dtype) for x in (*arrays[:3], arrays[4]))
    valid = jnp.asarray(arrays[3])
    forward = jax.jit(
        lambda q, k, v, valid: attend(q, k, v, mask, valid, implementation=implementation)
    )
    both = _with_gradients(implementation, mask)
    times = [
        statistics.median(time_repeats(run, scale.repeats))
        for run in (
            lambda: forward(q, k, v, valid),
            lambda: both(q, k, v, valid, cotangent),
        )
    ]
    return rates(scale, mask, *times)


def rates(scale: Scale, mask: AttentionMask, forward: float, both: float) -> dict[str, Any]:
    """Returns times in milliseconds and rates over the pairs that attend to each other.

    Args:
      scale: of the heads.
      mask: of the sequence.
      forward: seconds of the forward pass.
      both: seconds of forward and backward pass, whose five products cost 3.5 times the two.
    """
    flops = 4.0 * scale.heads * scale.head_dim * mask.num_pairs()
    return {
        "tokens": mask.num_keys,
        "forward ms": forward * 1e3,
        "forward and backward ms": both * 1e3,
        "forward TFLOP/s": flops / forward / 1e12,
        "forward and backward TFLOP/s": 3.5 * flops / both / 1e12,
    }


def _with_gradients(implementation: str, mask: AttentionMask) -> Callable[..., Any]:
    def run(q, k, v, valid, cotangent):
        def forward(q, k, v):
            return attend(q, k, v, mask, valid, implementation=implementation)

        out, backward = jax.vjp(forward, q, k, v)
        return (out, *backward(cotangent.astype(out.dtype)))

    return jax.jit(run)


def _relative_error(ours: jax.Array, theirs: jax.Array) -> float:
    expected = np.asarray(theirs, np.float64)
    error = np.asarray(ours, np.float64) - expected
    return float(np.linalg.norm(error) / np.linalg.norm(expected))


def _check_platform(scale: Scale, implementation: str) -> None:
    """At full scale a kernel runs only where it is not interpreted or replaced."""
    device = jax.devices()[0]
    if scale != SMALL and auto.for_device(implementation, device) != implementation:
        raise NotApplicable(f"{implementation} is not for a {device.platform}")
