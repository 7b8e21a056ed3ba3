"""Benchmark of opening packed data with many shards, of which only the bookkeeping exists."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.packed_manifest import MANIFEST, Manifest, Shard, encode_index
from ditfuse_jax.train.settings import Recipe

SHARDS, RECORDS = 10_000, 10_000

# Run in processes of their own, since memory is measured: prints JSON.
_OPEN = """
import json, pickle, sys, time
from pathlib import Path
from ditfuse_jax.bench.packed import resident_mib
from ditfuse_jax.pipeline.packed import PackedSource
before, start = resident_mib(), time.perf_counter()
source = PackedSource(Path(sys.argv[1]))
opened = time.perf_counter() - start
print(json.dumps({"seconds": opened, "mib": resident_mib() - before, "mib_before": before}))
Path(sys.argv[2]).write_bytes(pickle.dumps(source))
"""
_WORKER = """
import json, pickle, random, sys, time
from pathlib import Path
import ditfuse_jax.pipeline.packed
from ditfuse_jax.bench.packed import resident_mib
before, start = resident_mib(), time.perf_counter()
source = pickle.loads(Path(sys.argv[2]).read_bytes())
received = time.perf_counter() - start
mib = resident_mib() - before
for number in random.Random(0).choices(range(len(source)), k=2000):
    source.name(number), source.size(number)
print(json.dumps({"seconds": received, "mib": mib, "mib_after_reads": resident_mib() - before}))
"""


def bench_packed(recipe: Recipe, repeats: int) -> Measurement:
    """Measures opening 10,000 shards of 10,000 records: seconds and MiB, here and in a worker.

    Raises:
      UserError: the machine is not Linux.
    """
    del recipe
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), SHARDS, RECORDS)
        return measure_opening(Path(folder), repeats)


def simulate(folder: Path, shards: int, records: int) -> None:
    """Writes a folder of packed data whose shards are empty files, all with one index."""
    random = np.random.default_rng(0)
    names = [f"photograph-{k:012}" for k in range(records)]
    index = folder / ".index"
    index.write_bytes(encode_index(names, random.integers(256, 2048, (records, 2)).tolist()))
    (folder / ".shard").touch()
    entries = []
    for k in range(shards):
        digest, other = random.bytes(32).hex(), random.bytes(32).hex()
        shard = Shard(f"shard-{k:05}.arrayrecord", records, None, 1 << 30, digest, other)
        for name, file in ((".shard", shard.file), (".index", shard.index_file)):
            os.link(folder / name, folder / file)
        entries.append(shard)
    options = {"source": "simulated", "shard_size": records}
    (folder / MANIFEST).write_text(Manifest(1, (), tuple(entries), options).to_json())


def measure_opening(folder: Path, repeats: int) -> Measurement:
    """Measures opening a folder, and receiving it in a worker.

    Raises:
      UserError: the machine is not Linux.
    """
    pickled = folder / ".pickled"
    opened = [_measured(_OPEN, folder, pickled) for _ in range(repeats)]
    worker = _measured(_WORKER, folder, pickled)
    source: PackedSource = pickle.loads(pickled.read_bytes())
    facts = {
        "shards": len(source.shards),
        "records": len(source),
        "mib": max(one["mib"] for one in opened),
        "mib_of_imports": opened[0]["mib_before"],
        "worker_seconds": worker["seconds"],
        "worker_mib": worker["mib"],
        "worker_mib_after_2000_names_and_sizes": worker["mib_after_reads"],
        "pickled_mib": pickled.stat().st_size / 2**20,
    }
    return Measurement([one["seconds"] for one in opened], len(source), 0.0, facts)


def resident_mib() -> float:
    """Returns the resident memory of this process in MiB.

    Raises:
      UserError: the machine is not Linux.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        raise UserError("resident memory is measured on Linux only") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _measured(code: str, *arguments: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"the measured process failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)
