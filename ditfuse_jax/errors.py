"""The error for bad input and bad environments."""

import unicodedata
from collections.abc import Mapping

# Exit code of a command that ends with a `UserError`.
EXIT_USER_ERROR = 2

# Exit code where the same command may succeed later (EX_TEMPFAIL of BSD's sysexits.h): schedulers
# start it again.
EXIT_TEMPORARY = 75

# Exit code after Ctrl-C, as shells report it.
EXIT_INTERRUPTED = 130


# Characters that reverse what a terminal shows after them.
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def one_line(text: object) -> str:
    """Returns a text in one line that changes no terminal: control characters are escaped.

    Names of files may hold line breaks and any other character but a slash.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Zl", "Zp") or char in _DIRECTIONS
        else char
        for char in str(text)
    )


class UserError(Exception):
    """Bad input or a bad environment; the message is one line: what, where, what to do.

    The command line prints it without a traceback and exits with `exit_code`.  Any other exception
    that reaches the user is a bug.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class TemporaryError(UserError):
    """A failure of the environment that passes by itself, such as a store that does not answer."""


def is_temporary(error: UserError) -> bool:
    """Whether an error is a `TemporaryError`, or was caused by one.

    Jobs of many parts end with such an error: the parts that follow would wait as long.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TemporaryError):
        cause = cause.__cause__
    return cause is not None


def exit_code(error: UserError) -> int:
    """Returns the exit code of a command that ends with an error."""
    return EXIT_TEMPORARY if is_temporary(error) else EXIT_USER_ERROR


class ContractError(UserError):
    """A registered task, degradation, ... returns or changes what it must not.

    It ends the run: no record of the data is at fault.
    """


class IncompleteError(UserError):
    """Some parts of a job failed; the others are finished.

    Attributes:
      failures: name -> why, one line each.
    """

    def __init__(self, message: str, failures: Mapping[str, str]):
        """Creates the error."""
        super().__init__(message)
        self.failures = dict(failures)
