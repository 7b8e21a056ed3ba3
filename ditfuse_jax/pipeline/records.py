"""Samples with prompts: registered sources, a target and a prompt, from a JSONL file."""

from pathlib import Path
from typing import SupportsIndex

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import image_size
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.pipeline.access import Existing, load_image, unreadable
from ditfuse_jax.prompts import read_records, split_prompt
from ditfuse_jax.tasks import PromptedImages


class RecordSource:
    """Random access to the samples of a file: the sources, the target and the prompt.

    All samples have the same number of sources, since the examples of a batch have one shape.
    """

    def __init__(self, path: Path, root: Path | None = None):
        """Reads a file of records.

        Args:
          path: see `prompts.records`.
          root: the folder that the images' paths are relative to; by default the file's.

        Raises:
          UserError: a line is not a record, an image is missing, the records have different numbers
            of sources, or a prompt places an image twice; the message names the file and the line.
        """
        self.records = read_records(path)
        self.root = path.parent if root is None else root
        self.remote = is_remote(self.root)
        exists = Existing()
        self.num_images = len(self.records[0].input_images) + 1
        self.names = [
            f"{Path(record.output_image).stem}-{line}"
            for line, record in enumerate(self.records, start=1)
        ]
        for line, record in enumerate(self.records, start=1):
            where, count = f"{path} line {line}", len(record.input_images)
            if not count:
                raise UserError(f"{where} has no input images: there is nothing to fuse")
            if count != self.num_images - 1:
                raise UserError(
                    f"{where} has {count} input image(s) and line 1 has {self.num_images - 1}: use "
                    "separate files"
                )
            if len(split_prompt(record.instruction, count).order) > count:
                raise UserError(f"{where} places an image twice: place each image once")
            for file in record.files(self.root):
                if not exists(file):
                    raise UserError(
                        f"{where} names {file}, which is missing: paths are relative to {self.root}"
                    )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: SupportsIndex) -> PromptedImages:
        record = self.records[index]
        images = [load_image(file) for file in record.files(self.root)]
        return PromptedImages(images, record.instruction)

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        return image_size(self.records[index].files(self.root)[0])


def open_records(argument: str) -> RecordSource:
    """Opens `FILE`, or `FILE@ROOT` if the images' paths are relative to the folder ROOT.

    Raises:
      UserError: see `RecordSource`.
    """
    path = as_path(argument)
    try:
        names_root = "@" in argument and not path.is_file()
    except OSError as error:
        raise unreadable(path, error) from error
    if names_root:
        file, _, root = argument.rpartition("@")
        return RecordSource(as_path(file), as_path(root))
    return RecordSource(path)
