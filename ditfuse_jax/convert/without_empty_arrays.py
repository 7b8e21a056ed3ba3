"""Functions without operations on empty arrays, for export.

Padding by zero pixels adds an empty array to a concatenation.  ONNX cannot reshape one: there a
dimension of 0 means that of the input.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

_CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat")


def without_empty_arrays(function: Callable, types: Sequence[Any]) -> Callable[..., Any]:
    """Returns the same function of arguments of these types, for a function with one result."""
    traced = jax.make_jaxpr(function)(*types)

    def run(*args: Any) -> Any:
        return _evaluate(traced.jaxpr, traced.consts, args)[0]

    return run


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    names, given = (*jaxpr.constvars, *jaxpr.invars), (*consts, *args)
    values: dict[Any, Any] = dict(zip(names, given, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        if all(0 in variable.aval.shape for variable in equation.outvars):
            values |= dict.fromkeys(equation.outvars)
            continue
        inputs, name = [read(atom) for atom in equation.invars], equation.primitive.name
        if name == "concatenate":
            parts = [value for value in inputs if value is not None]
            results = [jax.lax.concatenate(parts, equation.params["dimension"])]
        elif name in _CALLS:
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            closed = hasattr(inner, "consts")
            results = _evaluate(
                inner.jaxpr if closed else inner, inner.consts if closed else (), inputs
            )
        else:
            result = equation.primitive.bind(*inputs, **equation.params)
            results = result if equation.primitive.multiple_results else [result]
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
