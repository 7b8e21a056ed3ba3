"""OmniGen's training format: one JSON object per line, as its train_helper/data.py reads it.

    {"instruction": "Fuse <img><|image_1|></img> and <img><|image_2|></img>.",
     "input_images": ["ir.png", "vis.png"], "output_image": "fused.png"}

Paths are relative to the file's folder or to another root.  OmniGen ignores other fields; here they
are kept, e.g. `task_type`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.prompts.template import has_placeholders, split_prompt


@dataclass(frozen=True)
class Record:
    """One sample.

    Attributes:
      instruction: the whole prompt, with a placeholder for every input image and without the frame.
      input_images: paths as written in the file.
      output_image: path as written in the file.
      others: all other fields.
    """

    instruction: str
    input_images: tuple[str, ...]
    output_image: str
    others: Mapping[str, Any] = field(default_factory=dict)

    def files(self, root: Path) -> tuple[Path, ...]:
        """Returns the input images' paths and the output image's, below `root`."""
        return tuple(root / path for path in (*self.input_images, self.output_image))

    def to_json(self) -> str:
        """Returns the record as one line without line break, other fields first."""
        fields = {
            **self.others,
            "instruction": self.instruction,
            "input_images": list(self.input_images),
            "output_image": self.output_image,
        }
        return json.dumps(fields, ensure_ascii=False)


def read_records(path: Path) -> list[Record]:
    """Reads a file of records; record k is line k + 1.

    Raises:
      UserError: it is missing or empty, or a line is not a record; the message names the file and
        the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a JSONL file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: save it as UTF-8") from error
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    lines = text.rstrip().split("\n")
    if lines == [""]:
        raise UserError(f"{path} holds no records: write one JSON object per line")
    return [_record(line, f"{path} line {number}") for number, line in enumerate(lines, start=1)]


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes a file of records atomically.

    Raises:
      UserError: it cannot be written.
    """
    write_text(path, "".join(f"{record.to_json()}\n" for record in records))


def _record(line: str, where: str) -> Record:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}): write one object per line") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where} is not an object: write {{...}} with the fields of a record")
    for name in ("instruction", "input_images", "output_image"):
        if name not in fields:
            raise UserError(f"{where} lacks the field {name!r}: add it")
    instruction, output = fields.pop("instruction"), fields.pop("output_image")
    inputs = fields.pop("input_images")
    if inputs is None:  # in OmniGen's files: no input images
        inputs = []
    for name, value in (("instruction", instruction), ("output_image", output)):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where} has {value!r} as its {name}: write text")
    if not isinstance(inputs, list) or not all(isinstance(x, str) and x for x in inputs):
        raise UserError(f"{where} has {inputs!r} as its input_images: list paths")
    try:
        if inputs or has_placeholders(instruction):
            split_prompt(instruction, len(inputs))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return Record(instruction, tuple(inputs), output, fields)
