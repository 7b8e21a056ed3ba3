"""Checks of settings, with messages that name the configuration key."""

import math
import types
from collections.abc import Iterable
from typing import Any

from ditfuse_jax.errors import UserError


def check_at_least(key: str, value: float, least: float) -> None:
    """Raises a `UserError` if the value is below `least` or not a number."""
    if not _is_number(value) or not value >= least:
        raise UserError(f"{key} must be at least {least}, not {value}")


def check_finite(key: str, value: float) -> None:
    """Raises a `UserError` if the value is not a finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise UserError(f"{key} must be a finite number, not {value!r}")


def check_above_zero(key: str, value: float) -> None:
    """Raises a `UserError` if the value is not a number above 0."""
    if not _is_number(value) or not value > 0:
        raise UserError(f"{key} must be above 0, not {value}")


def check_fraction(key: str, value: float) -> None:
    """Raises a `UserError` if the value is not a number from 0 to 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise UserError(f"{key} must be in 0..1, not {value}")


def check_decay(key: str, value: float) -> None:
    """Raises a `UserError` if the value is not a number from 0 to below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise UserError(f"{key} must be from 0 to below 1, not {value}")


def check_seed(key: str, value: int) -> None:
    """Raises a `UserError` if the value is not a seed of 32 bits; JAX drops the higher bits."""
    check_at_least(key, value, 0)
    if value >= 2**32:
        raise UserError(f"{key} must be below 2**32, not {value}")


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Raises a `UserError` if the value is not among the choices."""
    choices = list(choices)
    if value not in choices:
        raise UserError(f"{key} {value!r} is unknown; choose from {', '.join(choices)}")


def check_text(key: str, value: Any) -> None:
    """Raises a `UserError` if the value is not a text of Unicode.

    A word of a command that is not UTF-8, as a terminal of another encoding sends it, is none.
    """
    if not isinstance(value, str):
        raise UserError(f"{key} must be a text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="backslashreplace").decode()
        raise UserError(f"{key} '{shown}' is not UTF-8: give it in that encoding") from error


def check_type(key: str, value: Any, kind: type | types.UnionType, name: str) -> None:
    """Raises a `UserError` if the value has another type than `kind`, which `name` describes."""
    if not isinstance(value, kind):
        raise UserError(f"{key} must be {name}, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
