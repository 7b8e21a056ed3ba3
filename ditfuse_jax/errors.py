"""The one error a user is meant to read."""

# Of a command that a `UserError` ends.
EXIT_USER_ERROR = 2


class UserError(Exception):
    """Bad input or a bad environment, told in one line: what is wrong, where, what to do.

    The command line prints it without a traceback and exits with `EXIT_USER_ERROR`; library callers
    catch it like any exception.  Anything else that escapes is a defect of this project.
    """
