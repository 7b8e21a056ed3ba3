"""Attributes of a module that are imported when they are first used (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(module: str, sources: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a module whose attributes come from other modules.

    Type checkers need the same imports under `if TYPE_CHECKING`.

    Args:
      module: the module's `__name__`.
      sources: attribute -> the module that defines it under the same name.
    """

    def getattribute(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(sources[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return getattribute
