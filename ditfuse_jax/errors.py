"""The error for bad input and bad environments."""

# Exit code of a command that ends with a `UserError`.
EXIT_USER_ERROR = 2


class UserError(Exception):
    """Bad input or a bad environment; the message is one line: what, where, what to do.

    The command line prints it without a traceback and exits with `EXIT_USER_ERROR`.  Any other
    exception that reaches the user is a bug.
    """


class ContractError(UserError):
    """A registered task, degradation, ... returns or changes what it must not.

    It ends the run: no record of the data is at fault.
    """
