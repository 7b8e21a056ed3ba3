"""Lists of images: each line names the files of one example, relative to the list."""

import csv
import json
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.access import Existing

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def manifest_stacks(argument: str) -> list[tuple[str, tuple[Path, ...]]]:
    """Reads a list of images.

    A line of `.csv` or `.tsv` holds the paths, without a header; a line of `.jsonl` a list of them
    or `{"name": NAME, "images": [PATH, ...]}`.  Empty lines are ignored.

    Returns:
      (name, files) of every line; the default name is the first path without suffix and with `-`
      for `/`.

    Raises:
      UserError: a line has the wrong format, names a missing file, has another number of images
        than the first line or repeats a name; the message names the line.
    """
    manifest = as_path(argument)
    suffix = manifest.suffix.lower()
    if suffix not in (*_DELIMITERS, ".jsonl"):
        raise UserError(f"{manifest}: a list of images ends in .csv, .tsv or .jsonl")
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{manifest}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{manifest}: cannot be read as UTF-8 text ({error})") from error
    stacks: dict[str, tuple[Path, ...]] = {}
    exists = Existing()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            name, paths = _json_line(line) if suffix == ".jsonl" else _table_line(line, suffix)
            files = tuple(manifest.parent / path for path in paths)
            _check(name, files, stacks, exists)
        except (ValueError, csv.Error) as error:
            raise UserError(f"{manifest} line {number}: {error}") from error
        stacks[name] = files
    if not stacks:
        raise UserError(f"{manifest}: lists no images")
    return list(stacks.items())


def _check(
    name: str, files: tuple[Path, ...], before: dict[str, tuple[Path, ...]], exists: Existing
) -> None:
    if "/" in name:  # names become file names
        raise ValueError(f"the name {name} holds a /")
    if name in before:
        raise ValueError(f"the name {name} occurs twice")
    if before and len(files) != len(first := next(iter(before.values()))):
        raise ValueError(f"{len(files)} image(s), but the first line has {len(first)}")
    for file in files:
        if not exists(file):
            raise ValueError(f"{file}: no such file")


def _table_line(line: str, suffix: str) -> tuple[str, list[str]]:
    (fields,) = csv.reader([line], delimiter=_DELIMITERS[suffix], strict=True)
    paths = [field.strip() for field in fields]
    if not all(paths):
        raise ValueError("an empty path")
    return _name(paths), paths


def _json_line(line: str) -> tuple[str, list[str]]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    fields: dict[str, Any] = value if isinstance(value, dict) else {"images": value}
    paths, name = fields.get("images"), fields.get("name")
    if (
        not isinstance(paths, list)
        or not paths
        or not all(isinstance(path, str) and path for path in paths)
        or not isinstance(name, str | None)
        or fields.keys() - {"name", "images"}
    ):
        raise ValueError('needs ["PATH", ...] or {"name": NAME, "images": ["PATH", ...]}')
    return name or _name(paths), paths


def _name(paths: list[str]) -> str:
    path = Path(paths[0]).with_suffix("")
    return "-".join(part for part in path.parts if part != path.anchor)
