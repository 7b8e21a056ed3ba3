"""Packs the image files of a source into ArrayRecord shards, in several processes.

A shard is written under a temporary name and renamed when it is complete; a small JSON file beside
it describes it.  After an interruption the same command packs only the missing shards.
"""

import concurrent.futures.process
import contextlib
import dataclasses
import json
import multiprocessing
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tqdm
from array_record.python.array_record_module import ArrayRecordWriter

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions, loaded_extensions
from ditfuse_jax.files import make_folder, sha256, write_text
from ditfuse_jax.pipeline.packed import (
    MANIFEST,
    Manifest,
    Shard,
    find_damage,
    pack_record,
    read_manifest,
)
from ditfuse_jax.pipeline.packer import FilePacker, Packer
from ditfuse_jax.pipeline.sources import FileSource, open_source

DEFAULT_PACKER = FilePacker()


@dataclasses.dataclass(frozen=True)
class _Job:
    """One shard to write."""

    folder: Path
    file: str
    stacks: tuple[tuple[str, tuple[Path, ...]], ...]
    labels: tuple[int, ...]
    packer: Packer


def prepare(
    source: str,
    output: Path,
    packer: Packer = DEFAULT_PACKER,
    *,
    shard_size: int = 256,
    processes: int = 1,
    max_bad_fraction: float = 0.01,
    quiet: bool = False,
) -> Manifest:
    """Packs a source of image files.

    A stack with an unusable file is skipped and reported.

    Args:
      source: see `open_source`; it must consist of files.
      output: a new folder, or that of an interrupted run.
      packer: turns files into records.
      shard_size: stacks per shard.
      processes: number of packing processes.
      max_bad_fraction: a larger fraction of skipped stacks is an error.
      quiet: show no progress.

    Returns:
      The contents of the folder.

    Raises:
      UserError: nothing to pack, other data in the folder, too many bad files, or a full disk.
    """
    opened = open_source(source)
    if not isinstance(opened, FileSource):
        raise UserError(f"source {source!r} is packed already, or does not consist of image files")
    if shard_size < 1 or processes < 1:
        raise UserError("shard_size and processes must be at least 1")
    output = Path(output).expanduser()
    make_folder(output)
    options = {"source": source, "shard_size": shard_size, **packer.options}
    stacks = list(zip(opened.names, opened.stacks, strict=True))
    _check_same_work(output, options, [name for name, _ in stacks])
    jobs = [
        _Job(
            output,
            f"shard-{k:05}.arrayrecord",
            tuple(stacks[start : start + shard_size]),
            opened.labels,
            packer,
        )
        for k, start in enumerate(range(0, len(stacks), shard_size))
    ]
    shards: dict[str, Shard] = {}
    counts = {job.file: len(job.stacks) for job in jobs}
    with tqdm.tqdm(total=len(stacks), unit="rec", desc="packing", disable=quiet) as bar:
        for shard in _run(jobs, processes):
            shards[shard.file] = shard
            bar.update(counts[shard.file])
            for name, reason in shard.skipped:
                bar.write(f"skipped {name}: {reason}")
    skipped = [pair for job in jobs for pair in shards[job.file].skipped]
    if len(skipped) > max_bad_fraction * len(stacks):
        name, reason = skipped[0]
        raise UserError(
            f"{len(skipped)} of {len(stacks)} records of {source} cannot be read, more than "
            f"{max_bad_fraction:.1%}: first {name} ({reason}); repair or remove them, or raise "
            "--max-bad"
        )
    manifest = Manifest(
        opened.num_images,
        opened.labels,
        tuple(shards[job.file] for job in jobs),
        options,
        packer.moments,
    )
    write_text(output / MANIFEST, manifest.to_json())
    return manifest


def verify(folder: Path, quiet: bool = False) -> bool:
    """Compares packed data with its manifest and prints damaged shards; True if there are none.

    Raises:
      UserError: there is no readable manifest.
    """
    damaged = list(find_damage(Path(folder).expanduser()))
    if not quiet:
        for shard, damage in damaged:
            print(f"{shard.file} {damage}: delete it and pack again with the same command")
        count = len(read_manifest(Path(folder).expanduser()).shards)
        print(f"{count - len(damaged)} of {count} shards are intact")
    return not damaged


def _check_same_work(folder: Path, options: dict[str, Any], names: Sequence[str]) -> None:
    """Refuses to continue an interrupted run with other data or options."""
    path = folder / ".prepare.json"
    wanted = json.dumps(options | {"names": list(names)})
    if path.exists():
        if path.read_text(encoding="utf-8") != wanted:
            raise UserError(
                f"{folder} holds data packed from another source or with other options: choose "
                "another output or remove it"
            )
    elif any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: choose another output")
    write_text(path, wanted)


def _run(jobs: Sequence[_Job], processes: int) -> Iterator[Shard]:
    if processes == 1:
        yield from map(_pack, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=load_extensions,
        initargs=(loaded_extensions(),),
    ) as pool:
        futures = [pool.submit(_pack, job) for job in jobs]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a packing process was killed (out of memory?): run the same command to continue"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _pack(job: _Job) -> Shard:
    """Writes one shard, unless it exists."""
    facts = job.folder / f".{job.file}.json"
    path = job.folder / job.file
    if facts.exists() and path.exists():
        shard = Shard.from_dict(json.loads(facts.read_text(encoding="utf-8")))
        if not shard.skipped:  # skipped files may have been repaired since
            return shard
    temporary = job.folder / f".{uuid.uuid4().hex}.tmp"
    names, sizes, skipped = [], [], []
    try:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        try:
            for name, paths in job.stacks:
                try:
                    records = job.packer(name, paths, job.labels)
                except UserError as error:
                    skipped.append((name, str(error)))
                    continue
                for record in records:
                    writer.write(pack_record(record.name, record.images, record.moments))
                    names.append(record.name)
                    sizes.append(record.size)
        finally:
            writer.close()
        shard = Shard(
            job.file,
            tuple(names),
            tuple(sizes),
            temporary.stat().st_size,
            sha256(temporary),
            tuple(skipped),
        )
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError on a full disk
        raise UserError(f"cannot write {path}: {error}; free space and run again") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    write_text(facts, json.dumps(dataclasses.asdict(shard)))
    return shard
