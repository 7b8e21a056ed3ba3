"""What is read from tensorstore's errors."""

from ditfuse_jax.storage.tensorstore_errors import is_refused, is_unavailable, status_of, summary

LOCKED = ValueError(
    'PERMISSION_DENIED: Error opening "zarr" driver: Error reading gs://b/x/manifest.ocdbt: the '
    "bucket is locked [tensorstore_spec='{...: ...}'] [http_response_code='403']"
)


def test_the_status_and_the_first_cause_are_found():
    assert status_of(LOCKED) == "PERMISSION_DENIED"
    assert summary(LOCKED) == "PERMISSION_DENIED: the bucket is locked"
    assert is_refused(LOCKED) and not is_unavailable(LOCKED)
    assert is_unavailable(ValueError("UNAVAILABLE: Error reading gs://b/x"))


def test_other_errors_have_no_status():
    errors = [ValueError(text) for text in ("RGB: 3 channels", "INVALID_ARGUMENT: Device 3", "no")]
    for error in (*errors, OSError("UNAVAILABLE: no"), KeyError("A")):
        assert status_of(error) is None
        assert not is_refused(error) and not is_unavailable(error)
