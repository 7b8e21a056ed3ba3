"""Failures that are the environment's: one line instead of a traceback."""

import os
import sys
from typing import Any

from ditfuse_jax.errors import one_line


def explain(error: Exception) -> str | None:
    """Returns one line for the user if the environment is at fault, None for any other failure.

    The environment: a file or folder cannot be used, such as a run folder of another user, the
    working folder is gone, or JAX has no device of the kind that was asked for.
    """
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or type(error).__name__
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return one_line(f"{name}: cannot be used ({reason})")
    if isinstance(error, OSError):
        try:
            os.getcwd()
        except OSError:
            return "the working folder was removed or cannot be read: change to another one"
    return _without_device()


def _without_device() -> str | None:
    jax: Any = sys.modules.get("jax")
    if jax is None:
        return None
    try:
        jax.devices()
    except Exception as failure:  # an AssertionError or a RuntimeError, depending on the platform
        asked = jax.config.jax_platforms or "the platform that was found"
        why = " ".join(str(failure).split()).split(". (")[0]
        return (
            f"JAX has no device for {asked} (JAX_PLATFORMS){f': {why}' if why else ''}: install"
            " the extra cuda or tpu, or set JAX_PLATFORMS=cpu"
        )
    return None
