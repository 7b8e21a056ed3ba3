"""Which errors of a save are failed writes."""

from pathlib import Path

import jax
import pytest

from ditfuse_jax.errors import EXIT_TEMPORARY, EXIT_USER_ERROR, UserError, exit_code
from ditfuse_jax.storage.retries import StorageError, StoreUnavailable
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


@pytest.mark.parametrize(
    "error, code",
    [
        (ValueError(FULL), EXIT_USER_ERROR),
        (ValueError(LOCKED), EXIT_USER_ERROR),
        (ValueError("UNAVAILABLE: Error writing gs://b/1: 503"), EXIT_TEMPORARY),
        (StoreUnavailable(5, "the store failed for 600 s", "gs://b"), EXIT_TEMPORARY),
    ],
)
def test_schedulers_start_a_run_again_whose_store_did_not_answer(error, code):
    with pytest.raises(UserError) as caught, write_errors(Path("run")):
        raise error
    assert exit_code(caught.value) == code
