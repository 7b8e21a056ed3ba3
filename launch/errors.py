"""The one error a user is meant to read."""

# Of a command that bad input ends: this one, and `ditfuse`.
EXIT_USER_ERROR = 2


class LaunchError(Exception):
    """Bad input, told in one line: what is wrong and what to do.

    The same idea as `ditfuse_jax.errors.UserError`; a launcher runs where only Python, jinja2 and
    PyYAML may be installed.
    """
