"""Named implementations of one kind (tasks, metrics, solvers, ...), open to extension."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, overload

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_entry_points

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to implementations that other modules may add to.

    A user's module adds an entry with `register` when it is imported; see `extensions`.
    """

    def __init__(self, kind: str, entries: Mapping[str, T] | None = None):
        """Creates a registry.

        Args:
          kind: what an entry is, for error messages: "task", "solver".
          entries: the implementations of this package.
        """
        self.kind = kind
        self._entries: dict[str, T] = dict(entries or {})

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, entry: T) -> T: ...
    def register(self, name, entry=None):
        """Adds an entry, as a call `register(name, entry)` or as a decorator `@register(name)`.

        Raises:
          UserError: the name is taken.
        """
        if entry is None:
            return lambda decorated: self.register(name, decorated)
        if self._entries.setdefault(name, entry) is not entry:
            raise UserError(f"{self.kind} {name!r} is registered already: choose another name")
        return entry

    def find(self, name: str) -> T:
        """Returns the entry of that name.

        Raises:
          UserError: there is none; the message lists the known names.
        """
        if name not in self:
            raise UserError(f"{self.kind} {name!r} is unknown; choose from {', '.join(self)}")
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            load_entry_points()
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            load_entry_points()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load_entry_points()
        return iter(self._entries)

    def __len__(self) -> int:
        load_entry_points()
        return len(self._entries)
