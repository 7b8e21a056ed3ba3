"""Modules of users that register their own tasks, metrics, solvers, ... (see `registry`).

An extension is a Python file or an importable module.  A recipe names it in `config.imports`, a
command with `--import`; an installed package announces it as an entry point of the group
`ditfuse_jax.extensions` and need not be named anywhere.  Processes that this one starts import what
`loaded_extensions` returns before they unpickle anything.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError

ENTRY_POINT_GROUP = "ditfuse_jax.extensions"

_MODULE_PREFIX = "ditfuse_extension_"

# What this process imported: absolute paths and module names, in order.
_loaded: dict[str, None] = {}
# What trained models name and was not found.
_not_found: dict[str, None] = {}
_entry_points_loaded = False
_lock = threading.RLock()


def load_extensions(names: Iterable[str]) -> tuple[str, ...]:
    """Imports extensions; each is imported once per process.

    Args:
      names: paths of Python files (ending in `.py`), or names of importable modules.

    Returns:
      The names, with absolute paths: they stay valid in another working directory.

    Raises:
      UserError: there is no such file or module, or its import fails.
    """
    return tuple(_load_file(Path(n)) if n.endswith(".py") else _load_module(n) for n in names)


def load_available_extensions(names: Iterable[str]) -> None:
    """Imports the extensions of a trained model, except those that do not exist here.

    These may define only what training needs, like a task; `missing_extensions` returns them.

    Args:
      names: see `load_extensions`.

    Raises:
      UserError: the import of one fails.
    """
    for name in names:
        if _exists(name):
            load_extensions([name])
        else:
            _not_found[name] = None


def missing_extensions() -> tuple[str, ...]:
    """Returns the extensions that `load_available_extensions` did not find."""
    return tuple(name for name in _not_found if not _exists(name))


def loaded_extensions() -> tuple[str, ...]:
    """Returns what `load_extensions` imported in this process, for processes that it starts."""
    return tuple(_loaded)


def is_of_package(entry: Any) -> bool:
    """Returns whether this package defines a function, a class or an instance's class."""
    # A function made of parts, such as a partial, may be an extension's, whatever its module.
    return str(getattr(entry, "__module__", "")).startswith("ditfuse_jax.")


def source_file(entry: Any) -> Path | None:
    """Returns the file that defines a function, a class or an instance's class, if there is one."""
    while isinstance(entry, functools.partial):
        entry = entry.func
    name = getattr(entry, "__module__", None) or type(entry).__module__
    return _module_file(name)


def source_files(entries: Iterable[Any]) -> list[Path]:
    """Returns the files on which entries of registries depend, beyond this package's own code.

    These are the files that define the entries, and all loaded extensions, which may hold parts of
    them.  Without an entry from outside this package, there are none.
    """
    outside = [entry for entry in entries if not is_of_package(entry)]
    files = [source_file(entry) for entry in outside]
    if outside:
        files += [Path(n) if n.endswith(".py") else _module_file(n) for n in _loaded]
    return sorted({file for file in files if file is not None and file.is_file()})


def load_entry_points() -> None:
    """Imports the extensions that installed packages announce, once per process.

    Raises:
      UserError: the import of one fails.
    """
    global _entry_points_loaded
    with _lock:
        if _entry_points_loaded:
            return
        _entry_points_loaded = True  # an extension that is being imported may use registries
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            try:
                entry_point.load()
            except (Exception, SystemExit) as error:  # whatever the module raises
                _entry_points_loaded = False
                name = f"{entry_point.name} = {entry_point.value}"
                raise _failure(name, entry_point.module, error) from error


def _exists(name: str) -> bool:
    if name.endswith(".py"):
        path = Path(name).expanduser()
        return path.is_file() or _module_name(path) in sys.modules
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        return not f"{name}.".startswith(f"{error.name}.")  # whether another module is missing
    except Exception:  # whatever its package raises; the import reports it
        return True


def _module_name(path: Path) -> str:
    # Pickled classes name their module, so the name must be the same in every process.
    return f"{_MODULE_PREFIX}{path.stem}"


def _module_file(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file else None


def _load_file(path: Path) -> str:
    path = path.expanduser().resolve()
    name = _module_name(path)
    with _lock:
        loaded = sys.modules.get(name)
        if loaded is not None:
            return _same_file(Path(str(loaded.__file__)), path)
        if not path.is_file():
            raise UserError(f"extension {path}: no such file; if it was moved, give --import FILE")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # whatever the file raises
            del sys.modules[name]
            raise _failure(str(path), name, error) from error
        _loaded[str(path)] = None
    return str(path)


def _same_file(loaded: Path, path: Path) -> str:
    """Returns the loaded file if `path` names it, a copy of it, or a former place of it.

    Raises:
      UserError: `path` is another file of the same name.
    """
    if path.is_file() and path != loaded and path.read_bytes() != loaded.read_bytes():
        raise UserError(f"extensions {loaded} and {path} have the same file name: rename one")
    return str(loaded)


def _load_module(name: str) -> str:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module raises
        failure = _failure(name, name, error)
        file = Path(f"{name.replace('.', '/')}.py")
        if isinstance(error, ModuleNotFoundError) and error.name == name and file.is_file():
            failure = UserError(f"{failure}; did you mean {file}?")
        raise failure from error
    _loaded[name] = None
    return name


def _failure(name: str, module: str, error: BaseException) -> UserError:
    """Returns the error to raise, with the innermost line of the extension that was running."""
    reason = " ".join(str(error).split())
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}"
    package = module.split(".")[0]
    lines = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).split(".")[0] == package
    ]
    return UserError(f"extension {name} cannot be imported: {reason}{lines[-1] if lines else ''}")
