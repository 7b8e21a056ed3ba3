"""The exit codes of errors."""

import pytest

from ditfuse_jax.errors import EXIT_TEMPORARY, EXIT_USER_ERROR, TemporaryError, UserError, exit_code


def test_only_what_a_temporary_failure_caused_has_its_exit_code():
    assert exit_code(UserError("bad input")) == EXIT_USER_ERROR
    assert exit_code(TemporaryError("no answer")) == EXIT_TEMPORARY
    with pytest.raises(UserError) as caught:
        try:
            try:
                raise TemporaryError("no answer")
            except TemporaryError as error:
                raise OSError("cannot write") from error
        except OSError as error:
            raise UserError("cannot write metrics.jsonl") from error
    assert exit_code(caught.value) == EXIT_TEMPORARY
