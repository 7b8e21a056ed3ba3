"""Several processes as one program."""

import os

import jax

from ditfuse_jax.errors import UserError


def initialize() -> None:
    """Joins the other processes when the environment names a coordinator.

    Reads `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`; without the first it
    does nothing.  Must run before any other use of JAX; a second call is harmless.

    Raises:
      UserError: the variables are incomplete.
    """
    if "JAX_COORDINATOR_ADDRESS" not in os.environ or jax.distributed.is_initialized():
        return
    try:
        count, index = (int(os.environ[k]) for k in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    except (KeyError, ValueError) as error:
        raise UserError(
            "JAX_COORDINATOR_ADDRESS is set: JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole "
            f"numbers ({error})"
        ) from error
    jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], count, index)


def is_main() -> bool:
    """True in the one process that writes logs and pictures."""
    return jax.process_index() == 0
