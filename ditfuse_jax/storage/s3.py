"""Amazon S3 and stores with its interface."""

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from ditfuse_jax.optional import import_optional
from ditfuse_jax.storage.retries import StorageError, describe, repeat

s3fs = import_optional("s3fs", "s3")

import botocore.exceptions as botocore  # noqa: E402  s3fs requires it

_TRANSIENT = (
    TimeoutError,
    ConnectionError,
    botocore.ConnectionError,
    botocore.HTTPClientError,
    botocore.IncompleteReadError,
)


class S3FileSystem(s3fs.S3FileSystem):
    """s3fs with longer retries and no cache of listings, which other processes make wrong."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs["use_listings_cache"] = False
        kwargs.setdefault("config_kwargs", {"retries": {"total_max_attempts": 1}})
        super().__init__(*args, **kwargs)

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """Logs in, with the credentials of the environment or a profile."""
        with _login_errors("s3"):
            return await super().set_session(*args, **kwargs)

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await super(S3FileSystem, self)._call_s3(method, *args, **kwargs)

        where = f"s3://{kwargs.get('Bucket', '')}"
        with _login_errors(where):
            return await repeat(call, _is_transient, where)

    async def _cat_file(self, path: str, **kwargs: Any) -> bytes:
        kwargs.setdefault("max_concurrency", 1)  # otherwise the size is asked for first

        async def call() -> bytes:  # the answer's body may break off too
            return await super(S3FileSystem, self)._cat_file(path, **kwargs)

        return await repeat(call, _is_transient, f"s3://{path}")

    async def _mkdir(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Does nothing: folders need not be made, and a missing bucket must not be."""

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """See `_mkdir`."""

    mkdir = makedirs = lambda self, path, *args, **kwargs: None


@contextlib.contextmanager
def _login_errors(where: str) -> Iterator[None]:
    """Turns missing or expired credentials and an unknown profile into a `StorageError`."""
    try:
        yield
    except botocore.ParamValidationError:  # s3fs expects it
        raise
    except botocore.BotoCoreError as error:
        if isinstance(error, _TRANSIENT):
            raise
        raise StorageError(
            errno.EACCES, f"{describe(error)} (check your AWS credentials and AWS_PROFILE)", where
        ) from error


def _is_transient(error: Exception) -> bool:
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return isinstance(error, _TRANSIENT) or status == 429 or status >= 500
