"""Logical axis names: what the dimensions of parameters and activations mean.

The model names its dimensions and knows no mesh.  Parameters carry the names as `axes` metadata;
activations pass through `constrain`, which does nothing until a caller installs a resolver (the
rules table of `parallel`) for the time of tracing.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import jax
from flax import nnx

Axes = tuple[str | None, ...]
Resolver = Callable[[Axes, tuple[int, ...]], jax.sharding.NamedSharding]

_resolver: contextvars.ContextVar[Resolver | None] = contextvars.ContextVar("axes", default=None)


@contextlib.contextmanager
def logical_axis_rules(resolver: Resolver) -> Iterator[None]:
    """Within this context `constrain` places activations where `resolver` says."""
    token = _resolver.set(resolver)
    try:
        yield
    finally:
        _resolver.reset(token)


def activation_sharding(axes: Axes, shape: tuple[int, ...]) -> jax.sharding.NamedSharding | None:
    """Where an activation of these dimensions lies, or None where no mesh is known.

    For kernels that the compiler cannot partition and that therefore run under `shard_map`.
    """
    resolver = _resolver.get()
    return None if resolver is None else resolver(axes, shape)


def spans_devices() -> bool:
    """Whether activations may lie on several devices."""
    place = activation_sharding(("batch",), (1,))
    return jax.device_count() > 1 if place is None else len(place.device_set) > 1


def with_logical_constraint(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins the layout of an activation whose dimensions are named by `axes`."""
    sharding = activation_sharding(axes, x.shape)
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


def num_shards(axis: str) -> int:
    """Over how many devices the named dimension is spread where its size divides; 1 outside."""
    sharding = activation_sharding((axis,), (0,))  # nothing divides by any number
    if sharding is None:
        return 1
    entry = sharding.spec[0]
    names = (entry,) if isinstance(entry, str) else entry or ()
    return math.prod(sharding.mesh.shape[name] for name in names)


def parameter(value: jax.Array, *axes: str | None) -> nnx.Param:
    """A parameter whose dimensions are named; scanned stacks get a leading "layers" axis."""
    if len(axes) != value.ndim:
        raise ValueError(f"{len(axes)} axis names for shape {value.shape}")
    return nnx.Param(value, axes=axes)


def axes_of(variable: nnx.Variable) -> Axes:
    """The names of a parameter's dimensions; parameters of scanned stacks have one more."""
    axes: Axes = variable.get_metadata("axes")
    extra = len(variable.shape) - len(axes)
    return ("layers",) * extra + axes
