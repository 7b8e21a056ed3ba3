"""`model.remat=auto`: the policy with the least recomputation whose training step fits the device.

The step is compiled with one policy after the other, and the memory that the compiler reserves is
compared with the device's.  Every start of a run chooses again, so a run that continues on another
kind or number of devices gets the policy for these.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from ditfuse_jax.errors import UserError

# From the least recomputation to the least memory.  `offload` recomputes as much as `full`.
CANDIDATES = ("none", "projections", "attention", "full", "offload")
# Share of the memory left for what is not part of the step: the next batch, evaluations, gaps
# between buffers.
RESERVE = 0.05
_GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class RematChoice:
    """A rematerialisation policy and why it was chosen.

    Attributes:
      name: a name in `REMAT_POLICIES`.
      reason: what decided.
      compiled: the step compiled with it; None if no compilation was needed.
    """

    name: str
    reason: str
    compiled: Any = None


def choose_remat(
    compile_with: Callable[[str], Any],
    limit: int | None,
    at_least: Callable[[str], int] = lambda name: 0,
) -> RematChoice:
    """Returns the first of `CANDIDATES` whose step fits.

    Args:
      compile_with: compiles the training step with a policy and returns it; it has
        `memory_analysis()`.
      limit: bytes that a program may use on a device; None if there is no limit.
      at_least: a lower bound of the bytes that the step needs with a policy; a policy whose bound
        does not fit is not compiled.

    Raises:
      UserError: no policy fits.
    """
    if limit is None:
        return RematChoice("none", "the devices report no limit of their memory")
    usable = (1 - RESERVE) * limit
    rejected: list[str] = []
    for name in CANDIDATES:
        bound = at_least(name)
        if bound > usable:
            rejected.append(f"{name} needs at least {bound / _GIB:.2f}")
            continue
        try:
            compiled = compile_with(name)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rejected.append(f"{name} does not fit")
        else:
            needed = program_bytes(compiled.memory_analysis())
            if needed <= usable:
                fits = f"needs {needed / _GIB:.2f} of {limit / _GIB:.2f} GiB"
                return RematChoice(name, "; ".join([fits, *rejected]), compiled)
            del compiled
            rejected.append(f"{name} needs {needed / _GIB:.2f}")
    raise UserError(
        f"the training step does not fit a device with {limit / _GIB:.2f} GiB with any model.remat "
        f"({', '.join(rejected)}): use a smaller data.batch_size, more train.accumulation "
        "or, on several devices, mesh.fsdp"
    )


def program_bytes(memory: Any) -> int:
    """Returns the bytes per device while a program runs, from `compiled.memory_analysis()`."""
    kinds = ("argument", "output", "temp", "generated_code")
    total = sum(int(getattr(memory, f"{kind}_size_in_bytes")) for kind in kinds)
    return total - int(memory.alias_size_in_bytes)
