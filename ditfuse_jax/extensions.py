"""Modules of users that register their own tasks, metrics, solvers, ... (see `registry`).

An extension is a Python file or an importable module.  A recipe names it in `config.imports`, a
command with `--import`; an installed package announces it as an entry point of the group
`ditfuse_jax.extensions` and need not be named anywhere.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from ditfuse_jax.errors import UserError

ENTRY_POINT_GROUP = "ditfuse_jax.extensions"


def load_extensions(names: Iterable[str]) -> None:
    """Imports extensions; each is imported once per process.

    Args:
      names: paths of Python files (ending in `.py`), or names of importable modules.

    Raises:
      UserError: there is no such file or module, or its import fails.
    """
    for name in names:
        if name.endswith(".py"):
            _load_file(Path(name).expanduser())
        else:
            _import(name)


@functools.cache
def load_entry_points() -> None:
    """Imports the extensions that installed packages announce.

    Raises:
      UserError: the import of one fails.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry_point.load()
        except Exception as error:  # whatever the module does
            raise _failure(f"{entry_point.name} = {entry_point.value}", error) from error


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"no extension file at {path}")
    path = path.resolve()
    # Worker processes unpickle by module name, so the name depends on the file's name alone.
    name = f"ditfuse_extension_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        if loaded.__file__ != str(path):
            raise UserError(
                f"extensions {loaded.__file__} and {path} have the same file name: rename one"
            )
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        del sys.modules[name]
        raise _failure(str(path), error) from error


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever the module does
        raise _failure(name, error) from error


def _failure(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"extension {name} fails: {type(error).__name__}: {reason}")
