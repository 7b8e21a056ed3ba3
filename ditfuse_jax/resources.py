"""Where the recipes and data that live beside the package are found.

`configs/` and `data/` stand at the top of the repository; a wheel carries them inside the package.
"""

from pathlib import Path

from ditfuse_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE, _PACKAGE.parent)  # a wheel first: in a checkout the package holds no copies


def resource(*parts: str) -> Path:
    """Returns the path of a shipped file or folder, e.g. `resource("configs", "nano_m3.py")`.

    Raises:
      UserError: the installation lacks it.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise UserError(f"{'/'.join(parts)} is not part of this installation: reinstall ditfuse_jax")
