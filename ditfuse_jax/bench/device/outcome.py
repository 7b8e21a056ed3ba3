"""How a measurement may end other than with values."""

from collections.abc import Mapping
from typing import Any


class NotApplicable(Exception):
    """The measurement makes no sense on this machine; the message says why."""


class CheckFailed(Exception):
    """A measured value is not what it must be; the message says which."""

    def __init__(self, message: str, values: Mapping[str, Any]):
        super().__init__(message)
        self.values = dict(values)
