"""Packs the image files of a source into ArrayRecord shards, in several processes or machines.

A shard is written under a temporary name and renamed when it is complete; a small JSON file beside
it describes it.  After an interruption the same command packs only the missing shards.  Several
tasks may share the shards; whichever ends last writes the manifest.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import uuid
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import tqdm
from array_record.python.array_record_module import ArrayRecordWriter

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions, loaded_extensions
from ditfuse_jax.files import make_folder, reason, sha256, write_bytes, write_text
from ditfuse_jax.main_guard import check_main_guard
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.access import (
    DataAccessError,
    folder_of_temporaries,
    names_in,
    publish,
    unreadable,
)
from ditfuse_jax.pipeline.packed import find_damage, pack_record
from ditfuse_jax.pipeline.packed_manifest import (
    MANIFEST,
    Manifest,
    Shard,
    common_size,
    encode_index,
    read_manifest,
)
from ditfuse_jax.pipeline.packer import FilePacker, Packer
from ditfuse_jax.pipeline.sources import FileSource, open_source

DEFAULT_PACKER = FilePacker()
_WORK = ".prepare.json"
_READING_THREADS = 32


@dataclasses.dataclass(frozen=True)
class PackingTask:
    """One of several equal tasks that pack one folder: every `count`-th shard, from `index` on."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise UserError(
                f"task {self.index} of {self.count}: num_tasks must be at least 1, and task_index "
                "from 0 to num_tasks - 1"
            )


@dataclasses.dataclass(frozen=True)
class _Job:
    """One shard to write; `replaces` tells that the folder describes an earlier version of it."""

    folder: Path
    file: str
    stacks: tuple[tuple[str, tuple[Path, ...]], ...]
    labels: tuple[int, ...]
    packer: Packer
    replaces: bool = False


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A shard that is packed, and (name, reason) of what could not be packed."""

    shard: Shard
    skipped: tuple[tuple[str, str], ...]


def prepare(
    source: str,
    output: Path | str,
    packer: Packer = DEFAULT_PACKER,
    *,
    shard_size: int = 256,
    processes: int = 1,
    max_bad_fraction: float = 0.01,
    quiet: bool = False,
) -> Manifest:
    """Packs a source of image files.

    A stack with an unusable file is skipped and reported.  Shards that are there already are not
    compared with their source files.

    Args:
      source: see `open_source`; it must consist of files.
      output: a new folder, or that of an interrupted run; it may be in an object store, to which
        shards are copied when they are complete.
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
    manifest = prepare_task(
        source,
        output,
        packer,
        PackingTask(),
        shard_size=shard_size,
        processes=processes,
        max_bad_fraction=max_bad_fraction,
        quiet=quiet,
    )
    assert manifest is not None
    return manifest


def prepare_task(
    source: str,
    output: Path | str,
    packer: Packer,
    task: PackingTask,
    *,
    shard_size: int = 256,
    processes: int = 1,
    max_bad_fraction: float = 0.01,
    quiet: bool = False,
) -> Manifest | None:
    """Packs the shards of one task, and writes the manifest if no other task has shards left.

    The bytes are those that `prepare` writes, whatever the number of tasks.

    Args:
      task: which shards.
      source, output, packer, shard_size, processes, max_bad_fraction, quiet: see `prepare`; equal
        for all tasks.

    Returns:
      The contents of the folder, or None while shards of other tasks are missing or hold too many
      files that cannot be read.

    Raises:
      UserError: see `prepare`.
    """
    opened = open_source(source)
    if not isinstance(opened, FileSource):
        raise UserError(f"source {source!r} is packed already, or does not consist of image files")
    if shard_size < 1 or processes < 1:
        raise UserError("shard_size and processes must be at least 1")
    if processes > 1:
        check_main_guard(f"packing with processes={processes}")
    output = as_path(output)
    make_folder(output)
    options = {"source": source, "shard_size": shard_size, **packer.options}
    stacks = list(zip(opened.names, opened.stacks, strict=True))
    present = _check_same_work(output, options, opened.names)
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
    ours = jobs[task.index :: task.count]
    packed = _complete(output, [job.file for job in ours], present)
    # Files that were skipped may have been repaired since.
    packed = {file: one for file, one in packed.items() if not one.skipped}
    counts = {job.file: len(job.stacks) for job in ours}
    with tqdm.tqdm(total=sum(counts.values()), unit="rec", desc="packing", disable=quiet) as bar:
        bar.update(sum(counts[file] for file in packed))
        if packed and not quiet:
            bar.write(
                f"{len(packed)} of {len(ours)} shards are packed already; whether their source "
                "files have changed since was not checked"
            )
        missing = [
            dataclasses.replace(job, replaces=_is_described(job, present))
            for job in ours
            if job.file not in packed
        ]
        for one in _run(missing, processes):
            packed[one.shard.file] = one
            bar.update(counts[one.shard.file])
            for name, why in one.skipped:
                bar.write(f"skipped {name}: {why}")
    if task.count > 1:
        others = [job.file for job in jobs if job.file not in packed]
        packed |= _complete(output, others, names_in(output))
    done = [packed[job.file] for job in jobs if job.file in packed]
    skipped = [pair for one in done for pair in one.skipped]
    own = [pair for job in ours for pair in packed[job.file].skipped]
    if len(skipped) > max_bad_fraction * len(stacks):
        if not own:  # the tasks that skipped them end with the error, or pack them again
            return None
        name, why = own[0]
        raise UserError(
            f"{len(skipped)} of {len(stacks)} records of {source} cannot be read, more than "
            f"{max_bad_fraction:.1%}: first {name} ({why}); repair or remove them, or raise "
            "--max-bad"
        )
    if len(done) < len(jobs):
        return None
    shards = tuple(one.shard for one in done)
    manifest = Manifest(opened.num_images, opened.labels, shards, options, packer.moments)
    write_text(output / MANIFEST, manifest.to_json())
    return manifest


def verify(folder: Path | str, quiet: bool = False) -> bool:
    """Compares packed data with its manifest and prints damaged shards; True if there are none.

    Raises:
      UserError: there is no readable manifest.
    """
    folder = as_path(folder)
    damaged = list(find_damage(folder))
    if not quiet:
        for shard, damage in damaged:
            print(f"{shard.file} {damage}: delete it and pack again with the same command")
        count = len(read_manifest(folder).shards)
        print(f"{count - len(damaged)} of {count} shards are intact")
    return not damaged


def _check_same_work(folder: Path, options: dict[str, Any], names: Sequence[str]) -> set[str]:
    """Refuses to continue an interrupted run with other data or options.

    Returns:
      The names of what is in the folder.
    """
    path = folder / _WORK
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    wanted = json.dumps(options | {"records": len(names), "names_sha256": digest})
    # Listed before the file is looked for: another task may be writing both.
    present = names_in(folder)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = None
    except OSError as error:
        raise unreadable(path, error) from error
    if text is not None:
        if text == wanted:
            return present
        if text != json.dumps(options | {"names": list(names)}):  # as earlier versions wrote it
            raise UserError(
                f"{folder} holds data packed from another source or with other options: choose "
                "another output or remove it"
            )
    elif any(not name.endswith(".tmp") for name in present):
        raise UserError(f"{folder} is not empty: choose another output")
    write_text(path, wanted)
    return present


def _run(jobs: Sequence[_Job], processes: int) -> Iterator[_Packed]:
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


def _is_described(job: _Job, present: Container[str]) -> bool:
    """Whether the folder says what is in the job's shard, so far."""
    return MANIFEST in present or _facts_file(job.folder, job.file).name in present


def _pack(job: _Job) -> _Packed:
    """Writes one shard."""
    path = job.folder / job.file
    temporary = folder_of_temporaries(job.folder) / f".{uuid.uuid4().hex}.tmp"
    names, sizes, skipped = [], [], []
    try:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        try:
            for name, paths in job.stacks:
                try:
                    records = job.packer(name, paths, job.labels)
                except DataAccessError:  # the file may be good: it must not be skipped
                    raise
                except UserError as error:
                    skipped.append((name, str(error)))
                    continue
                for record in records:
                    writer.write(pack_record(record.name, record.images, record.moments))
                    names.append(record.name)
                    sizes.append(record.size)
        finally:
            writer.close()
        index = encode_index(names, sizes)
        shard = Shard(
            job.file,
            len(names),
            common_size(sizes),
            temporary.stat().st_size,
            sha256(temporary),
            hashlib.sha256(index).hexdigest(),
            len(skipped),
        )
        if job.replaces:  # after an interruption nothing must describe what is not there any more
            (job.folder / MANIFEST).unlink(missing_ok=True)
            _facts_file(job.folder, job.file).unlink(missing_ok=True)
        write_bytes(job.folder / shard.index_file, index)
        publish(temporary, path)
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError on a full disk
        raise UserError(
            f"cannot write {path}: {reason(error)}; free space and run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    facts = shard.to_dict() | {"skipped": skipped}
    write_text(_facts_file(job.folder, job.file), json.dumps(facts))
    return _Packed(shard, tuple(skipped))


def _complete(folder: Path, files: Sequence[str], present: Container[str]) -> dict[str, _Packed]:
    """Returns those of the shards that are complete; `present` names what is in the folder."""
    there = [f for f in files if f in present and _facts_file(folder, f).name in present]
    with concurrent.futures.ThreadPoolExecutor(_READING_THREADS) as pool:
        found = list(pool.map(lambda file: _read_facts(folder, file, present), there))
    return {file: facts for file, facts in zip(there, found, strict=True) if facts is not None}


def _read_facts(folder: Path, file: str, present: Container[str]) -> _Packed | None:
    """Returns what is known of a shard; None if it is not complete."""
    path = _facts_file(folder, file)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}): remove it and run again") from error
    skipped = tuple((name, why) for name, why in values["skipped"])
    if "names" not in values:
        shard = Shard.from_dict(values | {"skipped": len(skipped)})
        return _Packed(shard, skipped) if shard.index_file in present else None
    # An earlier version wrote no index file.
    shard = Shard.with_names(values)
    write_bytes(folder / shard.index_file, shard.index)
    digest = hashlib.sha256(shard.index).hexdigest()
    shard = dataclasses.replace(shard, index_sha256=digest, index=b"")
    write_text(path, json.dumps(shard.to_dict() | {"skipped": skipped}))
    return _Packed(shard, skipped)


def _facts_file(folder: Path, file: str) -> Path:
    return folder / f".{file}.json"
