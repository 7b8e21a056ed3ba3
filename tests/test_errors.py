"""The exit codes and messages of errors."""

import pytest

from ditfuse_jax.errors import (
    EXIT_TEMPORARY,
    EXIT_USER_ERROR,
    IncompleteError,
    TemporaryError,
    UserError,
    exit_code,
    one_line,
)
from ditfuse_jax.storage.retries import StorageError


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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines.png: is empty", r"two\nlines.png: is empty"),
        ("a\r\x1b[2Jb\x85\u2028c\0", r"a\r\x1b[2Jb\x85\u2028c\x00"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("😀 é\udcff.png", "😀 é\udcff.png"),
    ],
)
def test_control_characters_of_names_are_escaped(text, line):
    assert one_line(text) == line
    assert str(UserError(text)) == str(IncompleteError(text, {})) == line
    assert str(StorageError(13, "refused", text)) == f"{line}: refused"
