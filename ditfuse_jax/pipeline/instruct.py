"""Writes training records: prompts from instruction pools for a list of images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.prompts import (
    INSTRUCTION_POOLS,
    SPLITS,
    InstructionPool,
    Record,
    instructions,
    join_instructions,
    read_pool,
    task_prompt,
    write_records,
)

_CLASS = "{class}"
_T = TypeVar("_T")


def prepare_instructions(
    pools: Sequence[str],
    images: Path | str,
    output: Path | str,
    *,
    split: str = "train",
    per_image: int | None = None,
    count: int | None = None,
    class_name: str | None = None,
    seed: int = 0,
) -> list[Record]:
    """Writes a file of records: prompts drawn from pools, images taken from a list.

    The pools are used in turn, and no sentence is repeated before all sentences of its pool were
    used.  A sentence of the brightness and contrast pools follows a fusion sentence of its split.

    Args:
      pools: names of groups, or paths of pool files (`*.yaml`).
      images: a text file, see `read_image_list`.
      output: the file to write; the paths in it are relative to its folder, except for those that
        are absolute in the list.
      split: "train" or "heldout".
      per_image: the number of records for every line of the list, in its order; 1 by default.
      count: the total number of records instead; the lines then come in random order, repeatedly.
      class_name: replaces `{class}` in the sentences.
      seed: equal seeds write equal files.

    Returns:
      The records.

    Raises:
      UserError: unknown pools, an invalid list, pools that do not fit it, or numbers out of range.
    """
    if per_image is not None and count is not None:
        raise UserError("give either per_image or count, not both")
    for name, value, least in (("per_image", per_image, 1), ("count", count, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    images, output = as_path(images), as_path(output)
    if is_remote(images) or is_remote(output):
        raise UserError(
            "the list of images and the file of records are on a local disk, since the paths in "
            "them are relative to it: copy the file of records to the images afterwards"
        )
    if output.exists() and output.samefile(images):
        raise UserError(f"{output} is the list of images: choose another output")
    opened = [
        read_pool(Path(p)) if p.endswith(".yaml") else INSTRUCTION_POOLS.find(p) for p in pools
    ]
    if split not in SPLITS:
        raise UserError(f"split {split!r} is unknown; choose from {', '.join(SPLITS)}")
    rows = read_image_list(images)
    for pool in opened:
        _check_suits(pool, len(rows[0]) - 1, images, class_name)
    make_folder(output.parent)
    here, there = os.path.realpath(images.parent), os.path.realpath(output.parent)
    paths = [[_relocated(path, here, there) for path in row] for row in rows]
    rng = np.random.default_rng(seed)
    if count is None:
        order = np.repeat(np.arange(len(rows)), per_image or 1)
    else:
        order = np.resize(rng.permutation(len(rows)), count)
    prompts = _prompts(opened, split, class_name, len(rows[0]) - 1, rng)
    records = []
    for number, (group, prompt) in zip(order, prompts, strict=False):
        *sources, target = paths[number]
        records.append(Record(prompt, tuple(sources), target, {"task_type": group}))
    write_records(output, records)
    return records


def read_image_list(path: Path) -> list[list[str]]:
    """Reads a list of images: each line names the sources and, last, the target of one sample.

    Paths are separated by tabs, or by commas in lines without tabs, and are relative to the list's
    folder.  Empty lines and lines that begin with `#` are ignored.

    Returns:
      The paths of every line as written, the same number in each.

    Raises:
      UserError: the list is unreadable or empty, a line has fewer than two paths or another number
        than the first, or an image is missing; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): give a list of images") from error
    rows: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path} line {number}"
        row = [cell.strip() for cell in line.split("\t" if "\t" in line else ",")]
        if len(row) < 2 or not all(row):
            raise UserError(f"{where} must name sources and a target, with tabs or commas between")
        if rows and len(row) != len(rows[0]):
            raise UserError(
                f"{where} names {len(row)} images, the lines before it {len(rows[0])}: use a "
                "separate list"
            )
        for name in row:
            if not (path.parent / name).is_file():
                raise UserError(f"{where} names {path.parent / name}, which is missing")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} names no images: write the sources and the target of a sample")
    return rows


def _check_suits(
    pool: InstructionPool, num_sources: int, images: Path, class_name: str | None
) -> None:
    if num_sources not in pool.images:
        held = " or ".join(map(str, pool.images))
        raise UserError(
            f"pool {pool.group} is for {held} source images, but a line of {images} has "
            f"{num_sources}: choose another pool"
        )
    if class_name is None and any(_CLASS in sentence.text for sentence in pool.instructions):
        raise UserError(f"pool {pool.group} needs the name of a class: give --class")


def _prompts(
    pools: Sequence[InstructionPool],
    split: str,
    class_name: str | None,
    num_images: int,
    rng: np.random.Generator,
) -> Iterator[tuple[str, str]]:
    """Yields (group, prompt) endlessly, the pools in turn."""
    fusion = _shuffled_cycle(instructions("fusion", heldout=split == "heldout"), rng)
    turns = [(pool, _shuffled_cycle(pool.sentences_of(split), rng)) for pool in pools]
    for pool, sentences in _shuffled_cycle(turns, rng):
        sentence = next(sentences).replace(_CLASS, class_name or _CLASS)
        if pool.task == "CONTROL":
            sentence = join_instructions(next(fusion), sentence)
        yield pool.group, task_prompt(pool.task, pool.tag, sentence, num_images)


def _shuffled_cycle(items: Sequence[_T], rng: np.random.Generator) -> Iterator[_T]:
    """Yields all items endlessly, in a new random order each time."""
    while True:
        for index in rng.permutation(len(items)):
            yield items[index]


def _relocated(path: str, here: str, there: str) -> str:
    """Rewrites a path relative to the folder `here` as one relative to `there`."""
    return path if os.path.isabs(path) else os.path.relpath(os.path.join(here, path), there)
