"""Which errors of a save are failed writes."""

from pathlib import Path

import jax
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.storage.retries import StorageError
from ditfuse_jax.train.checkpoint import write_errors

FULL = "RESOURCE_EXHAUSTED: Error writing: No space left on device [tensorstore_spec='{...}']"
LOCKED = "PERMISSION_DENIED: Error writing gs://b/1/_sharding: locked"


@pytest.mark.parametrize(
    "error",
    [
        TypeError("save() got an unexpected argument"),
        ValueError("a step must be positive"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17 bytes"),
    ],
)
def test_an_error_of_the_program_or_a_device_is_not_called_a_failed_write(error):
    with pytest.raises(type(error)) as caught, write_errors(Path("run")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error, reason",
    [
        (ValueError(FULL), "No space left on device; free space"),
        (ValueError(LOCKED), "PERMISSION_DENIED: Error writing gs://b/1/_sharding: locked"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (StorageError(13, "no permission", "gs://b"), "no permission"),
    ],
)
def test_a_failed_write_is_one_line_that_names_the_folder(error, reason):
    message = f"cannot write a checkpoint in run: {reason}"
    with pytest.raises(UserError, match=message), write_errors(Path("run")):
        raise error
