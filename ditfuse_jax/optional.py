"""Dependencies of the optional extras, imported only where they are used."""

import importlib
from types import ModuleType

from ditfuse_jax.errors import UserError


def import_optional(module: str, extra: str) -> ModuleType:
    """Imports a module that only an extra of this package installs.

    Args:
      module: its full name, e.g. "matplotlib.figure".
      extra: of `setup.cfg`.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != name:
            raise
        raise UserError(f"{name} is not installed: pip install 'ditfuse-jax[{extra}]'") from error
