"""Packed data: ArrayRecord shards of encoded images, and a manifest of their contents.

A record is msgpack: `{"name": str, "images": [bytes, ...]}`, each image an encoded file.  Reading a
record opens no file and lists no folder, which dominates the time to read many small images.
A record may also hold `"moments"`, the parameters of the autoencoder's posterior of its first image
(float32, little-endian, of the manifest's shape `moments`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import msgpack
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import sha256
from ditfuse_jax.images import decode_image, decode_labels
from ditfuse_jax.pipeline.access import names_in, unreadable
from ditfuse_jax.pipeline.disk_cache import DiskCache
from ditfuse_jax.pipeline.lazy_sequence import LazySequence
from ditfuse_jax.pipeline.packed_manifest import MANIFEST, NAME_ERRORS, Shard, read_manifest
from ditfuse_jax.pipeline.shards import Shards


class PackedSource:
    """Random access to packed records; see `Source`.

    In memory it holds what the manifest says about each shard, and nothing for single records.
    """

    def __init__(self, folder: Path):
        """Opens a folder, local or in an object store.

        Raises:
          UserError: it was not packed completely, is damaged, or holds no records.
        """
        self.folder = folder
        manifest = read_manifest(folder)
        self.num_images = manifest.num_images
        self.labels = manifest.labels
        self.options = manifest.options
        self.moments = manifest.moments
        self.shards = [shard for shard in manifest.shards if shard.records]
        if not self.shards:
            raise UserError(f"{folder} holds no records")
        present = names_in(folder)
        for shard in self.shards:
            needed = [shard.file] if shard.index else [shard.file, shard.index_file]
            for file in needed:
                if file not in present:
                    raise UserError(
                        f"{folder / file} is missing: pack the data again with the same command"
                    )
        # The number of the first record of each shard, and of all records.
        self._starts = np.cumsum([0, *(shard.records for shard in self.shards)])
        self._files = Shards(folder)
        self.names = LazySequence(len(self), self.name)

    def keep_on_disk(self, cache: DiskCache) -> None:
        """Keeps what is read from an object store in a cache; a folder on a disk needs none."""
        self._files = Shards(self.folder, cache)

    @property
    def remote(self) -> bool:
        return self._files.remote

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, ...]:
        return self.read(index)[0]

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        shard, number = self.locate(index)
        height, width = self.sizes(shard)[number]
        return int(height), int(width)

    def sizes(self, shard: int) -> np.ndarray:
        """Returns (height, width) of all records of a shard, uint32 (records, 2).

        Raises:
          DataAccessError: the shard's index cannot be read.
        """
        return self._files.sizes(self.shards[shard])

    def distinct_sizes(self) -> set[tuple[int, int]]:
        """Returns the sizes of all records.

        Raises:
          DataAccessError: the index of a shard cannot be read.
        """
        found = set()
        for k, shard in enumerate(self.shards):
            distinct = [shard.size] if shard.size else np.unique(self.sizes(k), axis=0).tolist()
            found.update((height, width) for height, width in distinct)
        return found

    def locate(self, index: SupportsIndex) -> tuple[int, int]:
        """Returns a record's shard and its number in it."""
        number = index.__index__()
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def start(self, shard: int) -> int:
        """Returns the number of a shard's first record."""
        return int(self._starts[shard])

    def name(self, index: SupportsIndex) -> str:
        """Returns a record's name.

        Raises:
          DataAccessError: the shard's index cannot be read.
        """
        shard, number = self.locate(index)
        return self._files.names(self.shards[shard])[number]

    def read(self, index: SupportsIndex) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
        """Returns an item's images and the moments (h, w, 2 C) of the first, if packed.

        Raises:
          UserError: the record is damaged; `DataAccessError` if the shard cannot be read.
        """
        shard, number = self.locate(index)
        data = self._files.record(self.shards[shard], number)
        record = msgpack.unpackb(data, unicode_errors=NAME_ERRORS)
        where = f"{self.folder} record {index} ({record['name']})"
        images = tuple(
            (decode_labels if k in self.labels else decode_image)(image, where)
            for k, image in enumerate(record["images"])
        )
        if self.moments is None:
            return images, None
        return images, np.frombuffer(record["moments"], "<f4").reshape(self.moments)


def is_packed(folder: Path) -> bool:
    """Returns whether a folder holds packed data.

    Raises:
      DataAccessError: the object store does not say.
    """
    try:
        return (folder / MANIFEST).is_file()
    except OSError as error:
        raise unreadable(folder, error) from error


def pack_record(name: str, images: Sequence[bytes], moments: np.ndarray | None = None) -> bytes:
    """Returns the bytes of one record."""
    fields: dict[str, Any] = {"name": name, "images": list(images)}
    if moments is not None:
        fields["moments"] = moments.astype("<f4").tobytes()
    packed = msgpack.packb(fields, unicode_errors=NAME_ERRORS)
    assert packed is not None
    return packed


def find_damage(folder: Path) -> Iterator[tuple[Shard, str]]:
    """Compares every shard with the manifest; yields damaged shards and a description each.

    Raises:
      UserError: the manifest is missing or damaged.
    """
    for shard in read_manifest(folder).shards:
        path = folder / shard.file
        if not path.is_file():
            yield shard, "is missing"
        elif path.stat().st_size != shard.bytes:
            yield shard, f"has {path.stat().st_size} bytes instead of {shard.bytes}"
        elif sha256(path) != shard.sha256:
            yield shard, "was changed after packing (sha256 differs)"
        elif shard.index:
            continue
        elif not (folder / shard.index_file).is_file():
            yield shard, f"has no {shard.index_file}"
        elif sha256(folder / shard.index_file) != shard.index_sha256:
            yield shard, f"has an index that was changed ({shard.index_file}: sha256 differs)"
