"""Folders as earlier versions packed them, and what a folder records."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ditfuse_jax.pipeline.packed_manifest import Shard, decode_names, decode_sizes, sizes_range


@pytest.fixture(scope="session")
def as_version_2() -> Callable[[Path], None]:
    """Rewrites a folder as earlier versions left it: names and sizes in JSON, no index files."""

    def rewrite(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        shards = []
        for entry in manifest["shards"]:
            shard = Shard.from_dict(entry)
            index = (folder / shard.index_file).read_bytes()
            (folder / shard.index_file).unlink()
            old = {
                "file": shard.file,
                "names": decode_names(index, shard),
                "sizes": decode_sizes(index[slice(*sizes_range(shard))]).tolist(),
                "bytes": shard.bytes,
                "sha256": shard.sha256,
                "skipped": [],
            }
            (folder / f".{shard.file}.json").write_text(json.dumps(old))
            shards.append(old)
        work = json.loads((folder / ".prepare.json").read_text())
        del work["records"], work["names_sha256"]
        names = [name for shard in shards for name in shard["names"]]
        (folder / ".prepare.json").write_text(json.dumps(work | {"names": names}))
        (folder / "manifest.json").write_text(
            json.dumps(manifest | {"version": 2, "shards": shards})
        )

    return rewrite


@pytest.fixture(scope="session")
def skipped_items() -> Callable[[Path], list[tuple[str, str]]]:
    """Reads (name, reason) of what could not be packed into a folder."""

    def read(folder: Path) -> list[tuple[str, str]]:
        facts = [json.loads(path.read_text()) for path in sorted(folder.glob(".shard-*.json"))]
        return [(name, why) for one in facts for name, why in one["skipped"]]

    return read
