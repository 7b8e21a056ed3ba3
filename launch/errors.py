"""The error that is shown to users."""

# The exit code after bad input, of this command and of `ditfuse`.
EXIT_USER_ERROR = 2


class LaunchError(Exception):
    """Bad input; the message is one line with what is wrong and what to do.

    It is separate from `ditfuse_jax.errors.UserError` because a launcher also runs where only
    Python, jinja2 and PyYAML are installed.
    """
