"""Named implementations of one kind (tasks, metrics, solvers, ...), open to extension."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_entry_points, missing_extensions

_PACKAGE = "ditfuse_jax"

T = TypeVar("T")
E = TypeVar("E")

_registrations = 0
_outside = 0  # registrations by other code than this package's


def num_registrations() -> int:
    """Returns how often an entry was added: what is cached by name is stale after one more."""
    return _registrations


def extended_from_outside() -> bool:
    """Returns whether code outside this package has added an entry to any registry."""
    return _outside > 0


class Registry(Mapping[str, T]):
    """A read-only mapping from names to implementations, with `register` to add one.

    A user's module adds entries when it is imported; see `extensions`.  Looking up an unknown name
    and iterating import the extensions of installed packages first.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, T] | Callable[[], Mapping[str, T]] | None = None
    ):
        """Creates a registry.

        Args:
          kind: what an entry is, for error messages: "task", "solver".
          entries: the implementations of this package, or a function that returns them, called at
            the first lookup.
        """
        self.kind = kind
        self._built_in = entries if callable(entries) else None
        self._lock = threading.RLock()
        self._entries: dict[str, T] = {} if callable(entries) else dict(entries or {})
        self._registered_by: dict[str, str] = {}  # the entries added by `register`

    @overload
    def register(self, name: str) -> Callable[[E], E]: ...
    @overload
    def register(self, name: str, entry: T) -> T: ...
    def register(self, name: str, entry: Any = None) -> Any:
        """Adds an entry, as a call `register(name, entry)` or as a decorator `@register(name)`.

        A function or class may be registered again by its own module, e.g. when a notebook's cell
        runs twice.

        Raises:
          UserError: the name is taken, empty or not a string.
        """
        check_name(self.kind, name)
        if entry is None:
            return lambda decorated: self.register(name, decorated)
        known = self._known()
        if name in known and not _same_definition(known[name], entry):
            first = self._registered_by.get(name, _PACKAGE)
            raise UserError(
                f"{self.kind} {name!r} is registered already by {first}: choose another name"
            )
        global _registrations, _outside
        _registrations += 1
        known[name] = entry
        self._registered_by[name] = _registering_module()
        _outside += self._registered_by[name] != _PACKAGE
        return entry

    def find(self, name: str) -> T:
        """Returns the entry of that name.

        Raises:
          UserError: there is none; the message lists the known names, and extensions of a trained
            model that were not found.
        """
        if name not in self:
            problem = f"{self.kind} {name!r} is unknown; choose from {', '.join(self)}"
            if missing := missing_extensions():
                problem += (
                    f" (extension not found: {', '.join(missing)}; if it defines this {self.kind}, "
                    "give --import FILE_OR_MODULE)"
                )
            raise UserError(problem)
        return self[name]

    def __getitem__(self, name: str) -> T:
        known = self._known()
        if name not in known:
            load_entry_points()
        return known[name]

    def __contains__(self, name: object) -> bool:
        known = self._known()
        if name not in known:
            load_entry_points()
        return name in known

    def __iter__(self) -> Iterator[str]:
        load_entry_points()
        return iter(tuple(self._known()))

    def __len__(self) -> int:
        load_entry_points()
        return len(self._known())

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {list(self._entries)})"

    def _known(self) -> dict[str, T]:
        if self._built_in is not None:
            with self._lock:  # threads may look up the first name at the same time
                if self._built_in is not None:
                    self._entries = {**self._built_in(), **self._entries}
                    self._built_in = None
        return self._entries


def check_name(kind: str, name: object) -> None:
    """Raises UserError unless the name of a new entry is a non-empty string.

    `@REGISTRY.register` without a name would pass the decorated function as the name.
    """
    if not isinstance(name, str):
        given = getattr(name, "__name__", repr(name))
        raise UserError(f'{given}: a {kind} needs a name, as in @REGISTRY.register("name")')
    if not name:
        raise UserError(f"a {kind} needs a name")


def _registering_module() -> str:
    """Returns the file, or else the name, of the module that calls into this package."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] != _PACKAGE:
            # The package's own modules are called by the import system.
            imported = module.startswith("importlib.")
            return _PACKAGE if imported else frame.f_globals.get("__file__", module)
        frame = frame.f_back
    return _PACKAGE


def _same_definition(one: Any, other: Any) -> bool:
    """Whether two functions, classes or instances of classes come from the same line of code.

    An entry that describes a function names it as its `definition`.
    """
    if one is other:
        return True
    one, other = (getattr(entry, "definition", entry) for entry in (one, other))
    if not hasattr(one, "__qualname__") and not hasattr(other, "__qualname__"):
        one, other = type(one), type(other)  # an instance of a class that was defined again
        if one is other:
            return False
    places = [(x.__module__, x.__qualname__) for x in (one, other) if hasattr(x, "__qualname__")]
    return len(places) == 2 and places[0] == places[1]
