"""Paths in object stores, with the methods of `pathlib.Path`.

A store has no folders: one exists as long as an object's name begins with its path.  An object
appears under its name when all of it was written, so writing needs no temporary name.
"""

import contextlib
import errno
import io
import types
from collections.abc import Iterator
from typing import IO, Any, Self

import fsspec
from etils import epath
from etils.epath.gpath import PosixGPath

from ditfuse_jax.errors import UserError
from ditfuse_jax.storage.retries import StorageError, StoreUnavailable, describe

# Protocols of fsspec -> the class that implements them.
_FILESYSTEMS = {
    "gs": "ditfuse_jax.storage.gcs.GCSFileSystem",
    "gcs": "ditfuse_jax.storage.gcs.GCSFileSystem",
    "s3": "ditfuse_jax.storage.s3.S3FileSystem",
}
for _protocol, _class in _FILESYSTEMS.items():
    fsspec.register_implementation(_protocol, _class, clobber=True)


@epath.register_path_cls(("gs://", "s3://"))  # so orbax's own paths are of this class too
class RemotePath(PosixGPath):
    """`gs://bucket/name` or `s3://bucket/name`.

    Unlike its parent class it tells a failure from an absent object, needs fewer requests and no
    TensorFlow, and makes no bucket.  A failure is a `StorageError`.
    """

    @property
    def filesystem(self) -> Any:
        """The store, as a file system of fsspec."""
        return fsspec.filesystem(self.parts[1])

    def exists(self, **_: Any) -> bool:
        return self._kind() is not None

    def is_dir(self, **_: Any) -> bool:
        return self._kind() == "directory"

    def is_file(self, **_: Any) -> bool:
        return self._kind() == "file"

    def is_symlink(self) -> bool:
        return False

    def samefile(self, other: Any) -> bool:
        return str(self) == str(other)

    def expanduser(self) -> Self:
        return self

    def resolve(self, strict: bool = False) -> Self:
        return self

    def absolute(self) -> Self:
        return self

    def stat(self, **_: Any) -> Any:
        with self._errors():
            found = self.filesystem.info(str(self))
        time = found.get("mtime") or found.get("LastModified")
        seconds = time.timestamp() if time else 0.0
        return types.SimpleNamespace(
            st_size=found["size"],
            st_mtime=seconds,
            is_directory=found["type"] == "directory",
            length=found["size"],
            mtime=int(seconds),
            owner=None,
            group=None,
            mode=None,
        )

    def iterdir(self) -> Iterator[Self]:
        """Iterates over a folder; one that is missing is empty, as there are no others."""
        return (path for path, _ in self.entries())

    def entries(self) -> Iterator[tuple[Self, bool]]:
        """Iterates over a folder in one request; also tells which entries are folders."""
        for found in self._list():
            name = found["name"].rstrip("/").rpartition("/")[2]
            if f"{self._key}/{name}" == found["name"].rstrip("/"):
                yield self / name, found["type"] == "directory"

    def glob(self, pattern: str, **_: Any) -> Iterator[Self]:
        scheme = self.parts[1]
        with self._errors():
            names = self.filesystem.glob(f"{self}/{pattern}")
        for found in sorted(names):
            yield type(self)(f"{scheme}://{found}")

    def rglob(self, pattern: str, **_: Any) -> Iterator[Self]:
        return self.glob(f"**/{pattern}")

    def mkdir(self, mode: Any = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing but refuse a path that exists, unless `exist_ok`."""
        if not exist_ok and self.exists():
            raise FileExistsError(f"{self} exists")

    def rmtree(self, missing_ok: bool = False) -> None:
        try:
            with self._errors():
                self.filesystem.rm(str(self), recursive=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        self.rmtree(missing_ok=True)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._errors():
                self.filesystem.rm_file(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def read_bytes(self) -> bytes:
        with self._errors():
            return self.filesystem.cat_file(str(self))

    def read_range(self, start: int, stop: int) -> bytes:
        """Returns the bytes from `start` to `stop`, in one request."""
        with self._errors():
            return self.filesystem.cat_file(str(self), start=start, end=stop)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        text = self.read_bytes().decode(encoding or "utf-8", errors or "strict")
        return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)

    def write_bytes(self, data: Any) -> int:
        with self._errors():
            self.filesystem.pipe_file(str(self), bytes(data))
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))
        return len(data)

    def create(self, data: bytes) -> bool:
        """Writes an object unless one has its name, in one step; returns whether it did."""
        try:
            with self._errors():
                self.filesystem.pipe_file(str(self), bytes(data), mode="create")
        except FileExistsError:
            # A repeated request meets what the first one wrote, if only its answer was lost.
            return self.read_bytes() == data
        return True

    def open(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Opens the object; nothing can be appended to one."""
        if mode.strip("bt") not in ("r", "w"):
            raise ValueError(f"{self} cannot be opened with mode {mode!r}")
        text: dict[str, Any] = {}
        if "b" not in mode:
            text = {"encoding": encoding or "utf-8", "errors": errors, "newline": newline}
        with self._errors():
            return self.filesystem.open(str(self), mode, **text)

    def upload(self, folder: Any) -> None:
        """Copies what a local folder holds to here, several files at a time."""
        with self._errors():
            self.filesystem.put(f"{folder}/", f"{self}/", recursive=True)

    @property
    def _key(self) -> str:
        return str(self).partition("://")[2].rstrip("/")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, UserError):
            raise
        except OSError as error:
            number = error.errno or errno.EIO
            kind = StoreUnavailable if isinstance(error, StoreUnavailable) else StorageError
            raise kind(number, describe(error), str(self)) from error

    def _kind(self) -> str | None:
        if len(self.parts) < 4:  # a bucket, or above it
            return "directory"
        try:
            with self._errors():
                return self.filesystem.info(str(self))["type"]
        except FileNotFoundError:
            return None

    def _list(self) -> list[dict[str, Any]]:
        try:
            with self._errors():
                return self.filesystem.ls(str(self), detail=True)
        except FileNotFoundError:
            return []
