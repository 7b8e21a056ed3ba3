"""Options of tasks: the fields of a task's dataclass, from a recipe's dict or from short text."""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ditfuse_jax.errors import UserError
from ditfuse_jax.tasks.example import Task

T = TypeVar("T")
MakeTask = Callable[[Any], Task]

_TEXT_SEPARATOR = "+"
_BOOLEANS = {"true": True, "false": False}


def parse_options(text: str) -> dict[str, str]:
    """Parses `OPTION=VALUE,OPTION=VALUE`.

    Raises:
      ValueError: the text has another form, or an option occurs twice.
    """
    options: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ValueError(f"{part!r} is not of the form OPTION=VALUE")
        if name in options:
            raise ValueError(f"option {name!r} is given twice")
        options[name] = value
    return options


def replace_options(instance: T, options: Mapping[str, Any], make_task: MakeTask) -> T:
    """Returns a copy of a dataclass instance with other values of its fields.

    An option that is not a field of the instance itself is looked up in the dataclasses that its
    fields hold, e.g. `overlap_fraction` in the `M3Config` of `M3`.

    Args:
      instance: its type annotations decide how values are converted.
      options: name -> value.  Text is parsed: elements of tuples are separated by `+`, and the keys
        of a mapping to numbers get equal weights.
      make_task: makes the value of fields of the type `Task`.

    Raises:
      UserError: an option is unknown, or its value has the wrong type or is refused by the
        dataclass.
    """
    known = list(_option_names(instance))
    for name in options:
        if name not in known:
            raise UserError(f"option {name!r} is unknown; choose from {', '.join(known) or 'none'}")
    return _replaced(instance, dict(options), make_task)


def _option_names(instance: Any) -> Iterator[str]:
    nested = []
    for field, value in _fields(instance):
        yield field.name
        if _is_instance_of_dataclass(value):
            nested.append(value)
    for value in nested:
        yield from _option_names(value)


def _replaced(instance: Any, options: dict[str, Any], make_task: MakeTask) -> Any:
    """Takes the options that it uses out of `options`."""
    try:
        hints = typing.get_type_hints(type(instance))
    except NameError:  # an annotation that is only imported for type checkers
        hints = {}
    changes = {}
    nested = []
    for field, value in _fields(instance):
        if field.name in options:
            given = options.pop(field.name)
            changes[field.name] = _converted(
                field.name, hints.get(field.name, Any), value, given, make_task
            )
        elif _is_instance_of_dataclass(value):
            nested.append((field.name, value))
    for name, value in nested:
        before = len(options)
        changed = _replaced(value, options, make_task) if options else value
        if len(options) < before:
            changes[name] = changed
    return dataclasses.replace(instance, **changes)


def _converted(name: str, hint: Any, current: Any, given: Any, make_task: MakeTask) -> Any:
    if hint is Task:
        return make_task(given)
    if _is_instance_of_dataclass(current) and isinstance(given, Mapping):
        return replace_options(current, given, make_task)
    try:
        return _convert(hint, given)
    except (TypeError, ValueError) as error:
        raise UserError(f"option {name} cannot be {given!r} ({error})") from error


def _convert(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or value == "none":
            return None
        (hint,) = [argument for argument in arguments if argument is not types.NoneType][:1]
        return _convert(hint, value)
    if origin is tuple and arguments[1:] == (...,):
        return tuple(_convert(arguments[0], element) for element in _elements(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else [(k, 1) for k in _elements(value)]
        return {key: _convert(arguments[1], weight) for key, weight in pairs}
    if isinstance(value, str):
        return _parse(hint, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, bool, str) and type(value) is not hint:
        raise TypeError(f"expected {hint.__name__}")
    return value


def _parse(hint: Any, text: str) -> Any:
    if hint in (str, Any):
        return text
    if hint is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError("expected true or false")
        return _BOOLEANS[text.lower()]
    if hint in (int, float):
        return hint(text)
    raise TypeError("this option cannot be given as text")


def _elements(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return value.split(_TEXT_SEPARATOR)
    if not isinstance(value, Sequence):
        raise TypeError("expected several values")
    return value


def _fields(instance: Any) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    for field in dataclasses.fields(instance):
        if field.init:
            yield field, getattr(instance, field.name)


def _is_instance_of_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
