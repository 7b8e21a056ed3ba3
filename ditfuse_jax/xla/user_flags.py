"""The options of XLA that the user has set in the environment."""

import os
import re
from pathlib import Path

ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def options_of_user() -> set[str]:
    """Returns the names of the options that `XLA_FLAGS` and `LIBTPU_INIT_ARGS` set.

    XLA takes a value that does not begin with a dash as the name of a file with the options
    (its `parse_flags_from_env.h`).
    """
    return {name for variable in ENVIRONMENT for name in re.findall(r"--(\w+)", _flags(variable))}


def _flags(variable: str) -> str:
    text = os.environ.get(variable, "").strip()
    if not text or text.startswith("-"):
        return text
    try:
        return Path(text).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return text  # XLA reports it
