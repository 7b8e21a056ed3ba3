"""Options with which XLA compiles for CPUs in less than half of the time.

The programs of a tile, mostly matrix products, run as fast without the last steps of LLVM's
optimisation and without XLA's emitters through MLIR.  The program that composes a whole frame, one
long loop over pixels, does not (docs/performance.md).
"""

import functools
from typing import Any

import jax

from ditfuse_jax.xla.user_flags import options_of_user

_QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 1,  # of LLVM, instead of 3
    "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def quick_options() -> dict[str, Any]:
    """Returns those options that the installed compiler knows; none where the device is no CPU.

    What the user has set in `XLA_FLAGS` stays as it is.
    """
    if jax.default_backend() != "cpu":
        return {}
    given = options_of_user()
    return {
        name: value
        for name, value in _QUICK.items()
        if name not in given and _is_known(name, value)
    }


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
