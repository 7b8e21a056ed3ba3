"""Google Cloud Storage."""

import errno
import os
from typing import Any

from ditfuse_jax.optional import import_optional
from ditfuse_jax.storage.retries import TIMEOUT_SECONDS, StorageError, describe, repeat

# The other implementation asks for the type of each bucket over gRPC first.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
gcsfs = import_optional("gcsfs", "gcs")

import aiohttp  # noqa: E402  gcsfs requires it
import google.auth.exceptions  # noqa: E402
from gcsfs.retry import HttpError, is_retriable  # noqa: E402

_plain_request: Any = gcsfs.GCSFileSystem._request
_plain_request = getattr(_plain_request, "__wrapped__", _plain_request)


class GCSFileSystem(gcsfs.GCSFileSystem):
    """gcsfs without a cache of listings, which other processes make wrong, and with longer retries.

    Failures that do not pass are `StorageError`s.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs["use_listings_cache"] = False
        kwargs.setdefault(
            "requests_timeout",
            aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=TIMEOUT_SECONDS),
        )
        super().__init__(*args, **kwargs)

    async def _request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await _plain_request(self, method, path, *args, **kwargs)

        bucket = args[0] if args else path.partition("/b/")[2].partition("/")[0]
        where = f"gs://{bucket}"
        try:
            return await repeat(call, _is_transient, where)
        except HttpError as error:
            number = _ERRNO.get(error.code or 0, errno.EIO)
            raise StorageError(number, describe(error), where) from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise StorageError(errno.EACCES, f"no credentials: {describe(error)}", where) from error
        except ValueError as error:  # gcsfs raises it for a bad request
            raise StorageError(errno.EINVAL, describe(error), where) from error

    async def _mkdir(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Does nothing: folders need not be made, and a missing bucket must not be."""

    mkdir = makedirs = lambda self, path, *args, **kwargs: None


_ERRNO = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 412: errno.EEXIST}


def _is_transient(error: Exception) -> bool:
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return bool(getattr(error, "retryable", False))
    if isinstance(error, HttpError) and str(error.code) == "401":
        return False
    return isinstance(error, TimeoutError) or is_retriable(error)
