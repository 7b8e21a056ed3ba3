"""What an error of tensorstore says: a `ValueError` that begins with a status.

`UNAVAILABLE: Error writing gs://bucket/...: Service Unavailable [...]`.  The names are those of
absl's status codes.
"""

import re

_UNAVAILABLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
# Not those of wrong calls, such as INVALID_ARGUMENT: they are bugs.
_OTHERS = (
    *("RESOURCE_EXHAUSTED", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"),
    *("ABORTED", "CANCELLED", "DATA_LOSS"),
)
_STATUS = re.compile(f"({'|'.join((*_UNAVAILABLE, *_REFUSED, *_OTHERS))}): ")


def status_of(error: Exception) -> str | None:
    """Returns the status of an error of tensorstore, such as `UNAVAILABLE`; None for others."""
    match = _STATUS.match(str(error)) if isinstance(error, ValueError) else None
    return match[1] if match else None


def summary(error: Exception) -> str:
    """Returns the status and the first cause of an error, without what lies between them."""
    reason = " ".join(str(error).partition(" [")[0].split())
    return f"{status_of(error)}: {reason.rpartition(': ')[2]}"


def is_unavailable(error: Exception) -> bool:
    """Whether tensorstore gave up because a store did not answer."""
    return status_of(error) in _UNAVAILABLE


def is_refused(error: Exception) -> bool:
    """Whether a store refused a request of tensorstore."""
    return status_of(error) in _REFUSED
