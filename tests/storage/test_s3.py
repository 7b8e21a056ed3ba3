"""S3 without a login: one line, before any request."""

from typing import Any

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.access import DataAccessError, names_in

pytest.importorskip("s3fs")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    path: Any = as_path("s3://bucket")
    store = type(path.filesystem)
    store.clear_instance_cache()
    yield
    store.clear_instance_cache()


def test_missing_credentials_are_one_line():
    with pytest.raises(UserError, match=r"s3://bucket: Unable to locate .*AWS_PROFILE"):
        as_path("s3://bucket/a").read_text()
    with pytest.raises(DataAccessError, match="s3://bucket/a cannot be read"):
        names_in(as_path("s3://bucket/a"))


def test_a_profile_that_does_not_exist_is_one_line(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match=r"\(nobody\) could not be found"):
        as_path("s3://bucket/a").read_text()
