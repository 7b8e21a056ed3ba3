"""Paths of the recipes and data that are installed with the package.

`configs/` and `data/` are at the top of the repository; a wheel has them inside the package.
"""

from pathlib import Path

from ditfuse_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE, _PACKAGE.parent)  # of a wheel and of a checkout


def resource(*parts: str) -> Path:
    """Returns the path of an installed file or folder, e.g. `resource("configs", "nano_m3.py")`.

    Raises:
      UserError: it is missing.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise UserError(f"{'/'.join(parts)} is not part of this installation: reinstall ditfuse_jax")
