"""Packed data: ArrayRecord shards of encoded images, and a manifest of their contents.

A record is msgpack: `{"name": str, "images": [bytes, ...]}`, each image an encoded file.  Reading a
record opens no file and lists no folder, which dominates the time to read many small images.
A record may also hold `"moments"`, the parameters of the autoencoder's posterior of its first image
(float32, little-endian, of the manifest's shape `moments`).
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import grain
import msgpack
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import sha256
from ditfuse_jax.images import decode_image, decode_labels

MANIFEST = "manifest.json"
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
      file: its name in the folder.
      names: names of its records.
      sizes: (height, width) of each record's images.
      bytes: length of the file.
      sha256: hex digest of the file.
      skipped: (name, reason) of items that could not be packed.
    """

    file: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    bytes: int
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Shard":
        return cls(
            values["file"],
            tuple(values["names"]),
            tuple((height, width) for height, width in values["sizes"]),
            values["bytes"],
            values["sha256"],
            tuple((name, reason) for name, reason in values["skipped"]),
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

    def to_json(self) -> str:
        fields = {"version": VERSION, "records": sum(len(s.names) for s in self.shards)}
        return json.dumps(fields | dataclasses.asdict(self), indent=1) + "\n"


class PackedSource:
    """Random access to packed records; see `Source`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        manifest = read_manifest(self.folder)
        self.names = [name for shard in manifest.shards for name in shard.names]
        self.sizes = [size for shard in manifest.shards for size in shard.sizes]
        self.num_images = manifest.num_images
        self.labels = manifest.labels
        self.options = manifest.options
        self.moments = manifest.moments
        if not self.names:
            raise UserError(f"{self.folder} holds no records")
        files = [str(self.folder / shard.file) for shard in manifest.shards if shard.names]
        for file in files:
            if not Path(file).is_file():
                raise UserError(f"{file} is missing: pack the data again with the same command")
        self._records = grain.sources.ArrayRecordDataSource(files)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, ...]:
        return self.read(index)[0]

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        return self.sizes[index]

    def read(self, index: SupportsIndex) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
        """Returns an item's images and the moments (h, w, 2 C) of the first, if packed."""
        number = int(index)
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        record = msgpack.unpackb(self._records[number])
        where = f"{self.folder} record {number} ({record['name']})"
        images = tuple(
            (decode_labels if k in self.labels else decode_image)(image, where)
            for k, image in enumerate(record["images"])
        )
        if self.moments is None:
            return images, None
        return images, np.frombuffer(record["moments"], "<f4").reshape(self.moments)


def is_packed(folder: Path) -> bool:
    """Returns whether a folder holds packed data."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Reads a folder's manifest.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = Path(folder) / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["version"] != VERSION:
            raise UserError(f"{path} has version {raw['version']}, this program reads {VERSION}")
        shards = tuple(Shard.from_dict(shard) for shard in raw["shards"])
        moments = tuple(raw["moments"]) if raw["moments"] else None
        return Manifest(raw["num_images"], tuple(raw["labels"]), shards, raw["options"], moments)
    except OSError as error:
        raise UserError(f"{path} is missing: was this folder made by `ditfuse prepare`?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): pack the data again") from error


def pack_record(name: str, images: Sequence[bytes], moments: np.ndarray | None = None) -> bytes:
    """Returns the bytes of one record."""
    fields: dict[str, Any] = {"name": name, "images": list(images)}
    if moments is not None:
        fields["moments"] = moments.astype("<f4").tobytes()
    packed = msgpack.packb(fields)
    assert packed is not None
    return packed


def find_damage(folder: Path) -> Iterator[tuple[Shard, str]]:
    """Compares every shard with the manifest; yields damaged shards and a description each.

    Raises:
      UserError: the manifest is missing or damaged.
    """
    for shard in read_manifest(folder).shards:
        path = Path(folder) / shard.file
        if not path.is_file():
            yield shard, "is missing"
        elif path.stat().st_size != shard.bytes:
            yield shard, f"has {path.stat().st_size} bytes instead of {shard.bytes}"
        elif sha256(path) != shard.sha256:
            yield shard, "was changed after packing (sha256 differs)"
