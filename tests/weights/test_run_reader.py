"""Which failures say that a checkpoint is damaged, and which that it was not read."""

import contextlib
import errno

import pytest

from ditfuse_jax.errors import EXIT_TEMPORARY, EXIT_USER_ERROR, UserError, exit_code
from ditfuse_jax.storage.retries import StoreUnavailable
from ditfuse_jax.weights.run_reader import RunReader

UNAVAILABLE = ValueError("UNAVAILABLE: Error reading gs://b/x: busy")
LOCKED = ValueError("PERMISSION_DENIED: Error reading gs://b/x: locked")
LOST = ValueError("DATA_LOSS: Error reading x: checksum mismatch")
REFUSED = PermissionError(errno.EACCES, "Permission denied", "x")


def chained(error, context, cause=None):
    """Returns an error that was raised while another one was handled."""
    error.__context__ = context
    if cause is not None:
        error.__cause__ = cause
    return error


@pytest.fixture
def said(tmp_path):
    """Returns the exit code and message for an error of a read of step 2, beside step 1."""
    for step in (1, 2):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    reader = RunReader(tmp_path)

    def said(error):
        with pytest.raises(UserError) as caught, reader._naming_damage(2):
            raise error
        return exit_code(caught.value), str(caught.value)

    with contextlib.closing(reader):
        yield said


@pytest.mark.parametrize(
    "error, code, reason",
    [
        (UNAVAILABLE, EXIT_TEMPORARY, "UNAVAILABLE: busy"),
        (LOCKED, EXIT_USER_ERROR, "PERMISSION_DENIED: locked"),
        (REFUSED, EXIT_USER_ERROR, "Permission denied"),
        (OSError(errno.ESTALE, "Stale file handle"), EXIT_USER_ERROR, "Stale file handle"),
        (chained(RuntimeError("no"), None, LOCKED), EXIT_USER_ERROR, "PERMISSION_DENIED: locked"),
        (
            chained(RuntimeError("no"), StoreUnavailable(errno.EIO, "busy", "gs://b")),
            EXIT_TEMPORARY,
            "no",
        ),
    ],
)
def test_what_could_not_be_read_may_be_intact(said, error, code, reason):
    found, message = said(error)
    assert found == code
    assert reason in message and "cannot be read (" in message
    assert "it may be intact" in message
    assert "damaged" not in message and "remove" not in message


@pytest.mark.parametrize(
    "error",
    [
        LOST,
        chained(ValueError(str(LOST)), REFUSED),
        chained(FileNotFoundError(errno.ENOENT, "No such file", "x"), REFUSED),
        KeyError("no such item"),
    ],
)
def test_what_was_read_and_is_not_right_is_damaged(said, error):
    code, message = said(error)
    assert code == EXIT_USER_ERROR
    assert "checkpoints/2 is damaged" in message and "remove it to use step 1" in message


def test_errors_that_name_each_other_as_cause_are_told(said):
    error = chained(RuntimeError("one"), None, RuntimeError("two"))
    assert error.__cause__ is not None
    error.__cause__.__context__ = error
    assert "is damaged (one)" in said(error)[1]
