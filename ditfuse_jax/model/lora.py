"""Low-rank adapters (LoRA, Hu et al. 2021): their options, and trees of their parameters.

`lora_layers.add_lora` replaces linear layers by `LoRALinear`, which shares their parameters and
adds the two factors; the model's own code is unchanged.  Factors of scanned layers are stacked like
the kernels.
The factors are named `lora_a` and `lora_b`: `split_lora` separates them from the frozen parameters,
`combine_trees` joins the two trees again.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.quantization import QUANTIZATIONS

Tree = dict[str, Any]

LEAVES = ("lora_a", "lora_b")

# Convolutions in PyTorch, to which "all linear layers" does not refer.
PATCH_EMBEDDERS = ("x_embedder", "input_x_embedder", "source_embedder")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Options of adapters; the names are PEFT's.

    Attributes:
      rank: rank of the update of every adapted layer.
      alpha: the update is scaled by `alpha / rank`.
      target_modules: the adapted linear layers, by the ends of their dotted paths ("qkv_proj",
        "time_token.inner"), or "all-linear".
      use_rslora: scales by `alpha / sqrt(rank)` instead (Kalajdzievski 2023).
      quantize: how the kernels under the adapters are kept in training, a name in
        `quantization.QUANTIZATIONS` (QLoRA, Dettmers et al. 2023); empty for unquantised ones.

    Raises:
      UserError: a value is invalid.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    use_rslora: bool = False
    quantize: str = ""

    def __post_init__(self):
        if self.rank < 1:
            raise UserError(f"lora.rank must be at least 1, not {self.rank}")
        if not self.alpha > 0:
            raise UserError(f"lora.alpha must be above 0, not {self.alpha}")
        if self.quantize:
            QUANTIZATIONS.find(self.quantize)
        if not self.target_modules or isinstance(self.target_modules, str):
            raise UserError(
                "lora.target_modules must be a tuple of names of linear layers, e.g. "
                f"('qkv_proj', 'o_proj'), not {self.target_modules!r}"
            )

    @property
    def scaling(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


def match_target_modules(
    names: Sequence[str] | Mapping[str, Any], targets: Sequence[str]
) -> list[str]:
    """Returns the names of linear layers that the targets match, sorted.

    Args:
      names: dotted paths of the linear layers.
      targets: see `LoRAConfig.target_modules`.

    Raises:
      UserError: a target matches none of them.
    """
    found: set[str] = set()
    for target in targets:
        if target == "all-linear":
            matches = {name for name in names if name.rsplit(".", 1)[-1] not in PATCH_EMBEDDERS}
        else:
            matches = {name for name in names if name == target or name.endswith(f".{target}")}
        if not matches:
            raise UserError(
                f"lora.target_modules: {target!r} matches no linear layer; there are "
                f"{', '.join(sorted(names))}, and 'all-linear'"
            )
        found |= matches
    return sorted(found)


def split_lora(tree: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """Splits a nested dict into the adapters' leaves and the others."""
    adapters: Tree = {}
    others: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            for part, inner in zip((adapters, others), split_lora(value), strict=True):
                if inner:
                    part[key] = inner
        else:
            (adapters if key in LEAVES else others)[key] = value
    return adapters, others


def combine_trees(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Joins two nested dicts that have no leaf in common; the inverse of `split_lora`."""
    combined: Tree = dict(one)
    for key, value in other.items():
        combined[key] = combine_trees(combined[key], value) if key in combined else value
    return combined


def merge_lora(parameters: Mapping[str, Any], adapter: Mapping[str, Any], scaling: float) -> Tree:
    """Adds `scaling * A @ B` to the kernels, in full precision; the kernels keep their dtype.

    Args:
      parameters: of the model without adapters.
      adapter: factors, nested like the parameters.
      scaling: `LoRAConfig.scaling`, times a weight where several adapters are merged.

    Raises:
      UserError: there is no kernel for a factor, or its shape does not match.
    """
    return _merge(parameters, adapter, scaling, ())


def check_factors(
    adapter: Mapping[str, Any],
    kernels: Mapping[tuple[str, ...], Any],
    path: tuple[str, ...] = (),
) -> None:
    """Checks that there is a kernel for every factor of an adapter, as `merge_lora` does.

    Args:
      adapter: factors, nested like the parameters.
      kernels: path of the layer -> its kernel, or anything with its shape.
      path: that leads to `adapter`.

    Raises:
      UserError: one is missing, or its shape does not match.
    """
    if LEAVES[0] in adapter:
        a, b = (adapter[name] for name in LEAVES)
        kernel = kernels.get(path)
        if kernel is None or not _matches(kernel.shape, a.shape, b.shape):
            found = None if kernel is None else tuple(kernel.shape)
            raise UserError(
                f"the adapter's {'.'.join(path)} has factors of shapes {tuple(a.shape)} and "
                f"{tuple(b.shape)}, but the model's kernel is {found}: the adapter was made for "
                "another model"
            )
        return
    for key, inner in adapter.items():
        check_factors(inner, kernels, (*path, key))


def _merge(
    parameters: Mapping[str, Any], adapter: Mapping[str, Any], scaling: float, path: tuple
) -> Tree:
    merged: Tree = dict(parameters)
    if LEAVES[0] in adapter:
        held = {path: parameters["kernel"]} if "kernel" in parameters else {}
        check_factors(adapter, held, path)
        a, b = (adapter[name] for name in LEAVES)
        merged["kernel"] = _merge_kernel(parameters["kernel"], a, b, scaling)
        return merged
    for key, inner in adapter.items():
        merged[key] = _merge(parameters.get(key, {}), inner, scaling, (*path, key))
    return merged


def _matches(kernel: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    stack = len(a) + len(b) - 2 - len(kernel)
    return (
        stack >= 0
        and kernel[:stack] == a[:stack] == b[:stack]
        and a[-1] == b[stack]
        and kernel[stack:] == (*a[stack:-1], *b[stack + 1 :])
    )


@jax.jit
def _merge_kernel(kernel: jax.Array, a: jax.Array, b: jax.Array, scaling: float) -> jax.Array:
    stack = a.ndim + b.ndim - 2 - kernel.ndim
    layers = a.shape[:stack]
    update = jnp.matmul(
        a.reshape(*layers, -1, a.shape[-1]).astype(jnp.float32),
        b.reshape(*layers, a.shape[-1], -1).astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (kernel + scaling * update.reshape(kernel.shape)).astype(kernel.dtype)
