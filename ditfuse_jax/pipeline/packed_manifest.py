"""The manifest of packed data, and the index of each shard's records.

`manifest.json` says what is in each shard in a few hundred bytes.  The names and sizes of the
records are in a file beside the shard, `SHARD.index`, and are read when they are needed, so that
neither opening a folder nor a data worker's memory depends on the number of records.

An index file is the records' (height, width) as uint32, little-endian, and the list of their names
as msgpack.  Manifests of version 2 held names and sizes themselves.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.access import unreadable

MANIFEST = "manifest.json"
VERSION = 3
# How names of records become UTF-8: bytes of a file's name that are not UTF-8 stay as they are.
NAME_ERRORS = "surrogateescape"
_VERSION_WITH_NAMES = 2
_SIZE_BYTES = 8  # of a record's height and width
_Bytes = bytes  # in a class with an attribute of that name


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
      file: its name in the folder.
      records: their number.
      size: (height, width) of the records' images if it is the same for all, or None.
      bytes: length of the file.
      sha256: hex digest of the file.
      index_sha256: hex digest of its index file; "" if `index` holds the index.
      skipped: number of items that could not be packed.
      index: the content of the index of a shard of version 2, which has no index file.
    """

    file: str
    records: int
    size: tuple[int, int] | None
    bytes: int
    sha256: str
    index_sha256: str = ""
    skipped: int = 0
    index: _Bytes = dataclasses.field(default=b"", repr=False)

    @property
    def index_file(self) -> str:
        return f"{self.file}.index"

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        del values["index"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Shard":
        return cls(
            values["file"],
            values["records"],
            _pair(values["size"]),
            values["bytes"],
            values["sha256"],
            values["index_sha256"],
            values["skipped"],
        )

    @classmethod
    def with_names(cls, values: dict[str, Any]) -> "Shard":
        """Reads an entry of version 2."""
        names, sizes = values["names"], values["sizes"]
        return cls(
            values["file"],
            len(names),
            common_size(sizes),
            values["bytes"],
            values["sha256"],
            skipped=len(values["skipped"]),
            index=encode_index(names, sizes),
        )


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a folder of packed data.

    Attributes:
      num_images: images per record.
      labels: positions among them that hold class numbers, not pictures.
      shards: in order.
      options: of the packing.
      moments: (h, w, 2 C), the shape of each record's moments, or None.
    """

    num_images: int
    labels: tuple[int, ...]
    shards: tuple[Shard, ...]
    options: dict[str, Any]
    moments: tuple[int, int, int] | None = None

    @property
    def records(self) -> int:
        """Records of all shards."""
        return sum(shard.records for shard in self.shards)

    def to_json(self) -> str:
        fields = {
            "version": VERSION,
            "records": self.records,
            "num_images": self.num_images,
            "labels": self.labels,
            "moments": self.moments,
            "options": self.options,
            "shards": [shard.to_dict() for shard in self.shards],
        }
        return json.dumps(fields, indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Reads a folder's manifest.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["version"]
        if version not in (VERSION, _VERSION_WITH_NAMES):
            raise UserError(f"{path} has version {version}, this program reads {VERSION}")
        read = Shard.from_dict if version == VERSION else Shard.with_names
        shards = tuple(map(read, raw["shards"]))
        moments = tuple(raw["moments"]) if raw["moments"] else None
        return Manifest(raw["num_images"], tuple(raw["labels"]), shards, raw["options"], moments)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: was this folder made by `ditfuse prepare`?") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): pack the data again") from error


def common_size(sizes: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """Returns the size of all records if there is only one."""
    distinct = {(height, width) for height, width in sizes}
    return next(iter(distinct)) if len(distinct) == 1 else None


def encode_index(names: Sequence[str], sizes: Sequence[Sequence[int]]) -> bytes:
    """Returns the content of an index file."""
    packed = msgpack.packb(list(names), unicode_errors=NAME_ERRORS)
    assert packed is not None
    return np.array(sizes, "<u4").reshape(-1, 2).tobytes() + packed


def sizes_range(shard: Shard) -> tuple[int, int]:
    """Returns the first byte of the sizes in a shard's index, and the byte after the last."""
    return 0, shard.records * _SIZE_BYTES


def decode_sizes(data: bytes) -> np.ndarray:
    """Decodes the sizes of an index: uint32 (records, 2).

    Raises:
      ValueError: the bytes are no sizes.
    """
    return np.frombuffer(data, "<u4").reshape(-1, 2)


def decode_names(index: bytes, shard: Shard) -> list[str]:
    """Decodes the names of a whole index.

    Raises:
      ValueError: the index is damaged, or of another shard.
    """
    names = msgpack.unpackb(index[sizes_range(shard)[1] :], unicode_errors=NAME_ERRORS)
    if not isinstance(names, list) or len(names) != shard.records:
        raise ValueError(f"not the names of {shard.records} records")
    return names


def _pair(value: Any) -> tuple[int, int] | None:
    return None if value is None else (value[0], value[1])
