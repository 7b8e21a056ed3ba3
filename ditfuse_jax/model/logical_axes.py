"""Logical axis names of the dimensions of parameters and activations.

The model does not depend on a mesh.  Parameters carry the axis names as `axes` metadata.
Activations pass through `with_logical_constraint`, which does nothing unless the caller traces
within `logical_axis_rules` (the rules table is in `parallel.rules`).
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from flax import nnx

Axes = tuple[str | None, ...]
# Returns the sharding of an activation from its axis names and shape.
ShardingRule = Callable[[Axes, tuple[int, ...]], jax.sharding.NamedSharding]

_rule: contextvars.ContextVar[ShardingRule | None] = contextvars.ContextVar("axes", default=None)


@contextlib.contextmanager
def logical_axis_rules(rule: ShardingRule) -> Iterator[None]:
    """Makes `with_logical_constraint` apply the shardings that `rule` returns, in this context."""
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)


def activation_sharding(axes: Axes, shape: tuple[int, ...]) -> jax.sharding.NamedSharding | None:
    """Returns the sharding of an activation, or None outside `logical_axis_rules`.

    For kernels that the compiler cannot partition and that therefore run under `shard_map`.
    """
    rule = _rule.get()
    return None if rule is None else rule(axes, shape)


def spans_devices() -> bool:
    """Returns whether activations may be sharded over several devices."""
    sharding = activation_sharding(("batch",), (1,))
    return jax.device_count() > 1 if sharding is None else len(sharding.device_set) > 1


def with_logical_constraint(x: jax.Array, *axes: str | None) -> jax.Array:
    """Constrains the sharding of an activation whose dimensions are named by `axes`."""
    sharding = activation_sharding(axes, x.shape)
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


def num_shards(axis: str) -> int:
    """Returns the number of shards of a named dimension of divisible size; 1 without rules."""
    sharding = activation_sharding((axis,), (0,))  # 0 is divisible by every number of devices
    if sharding is None:
        return 1
    entry = sharding.spec[0]
    names = (entry,) if isinstance(entry, str) else entry or ()
    return math.prod(sharding.mesh.shape[name] for name in names)


def parameter(value: jax.Array, *axes: str | None) -> "nnx.Param":
    """Creates a parameter with named dimensions; stacked layers get a leading "layers" axis.

    Raises:
      ValueError: the number of names is not the number of dimensions.
    """
    if len(axes) != value.ndim:
        raise ValueError(f"{len(axes)} axis names for shape {value.shape}")
    from flax import nnx

    return nnx.Param(value, axes=axes)


def axes_of(variable: "nnx.Variable") -> Axes:
    """Returns the axis names of a parameter, for stacked layers with the leading "layers"."""
    axes: Axes = variable.get_metadata("axes")
    extra = len(variable.shape) - len(axes)
    return ("layers",) * extra + axes
