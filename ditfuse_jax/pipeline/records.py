"""Samples made by anyone: registered sources, a target and a prompt, from a file of records."""

from pathlib import Path
from typing import SupportsIndex

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import image_size, read_image
from ditfuse_jax.prompts import read_records, split_prompt
from ditfuse_jax.tasks import PromptedImages


class RecordSource:
    """Random access to the samples of a file: the sources, the target, and the prompt with them.

    Examples of one batch have one shape, so all samples have as many sources as the first.
    """

    def __init__(self, path: Path, root: Path | None = None):
        """Reads `path`, a file of `prompts.records`; its images are below `root`.

        Args:
          root: None for the file's folder.

        Raises:
          UserError: a line is no record, an image is missing, or the records differ in the number
            of their sources or place one twice; the message names the file and the line.
        """
        self.records = read_records(path)
        self.root = path.parent if root is None else root
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
                    f"{where} has {count} input image(s) and line 1 has {self.num_images - 1}: put "
                    "them into files of their own"
                )
            if len(split_prompt(record.instruction, count).order) > count:
                raise UserError(f"{where} places an image twice: place each image once")
            for file in record.files(self.root):
                if not file.is_file():
                    raise UserError(
                        f"{where} names {file}, which is missing: paths are relative to {self.root}"
                    )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: SupportsIndex) -> PromptedImages:
        record = self.records[index]
        images = [read_image(file) for file in record.files(self.root)]
        return PromptedImages(images, record.instruction)

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        return image_size(self.records[index].files(self.root)[0])


def open_records(argument: str) -> RecordSource:
    """Opens `FILE`, or `FILE@ROOT` where the images' paths are relative to another folder.

    Raises:
      UserError: as `RecordSource`.
    """
    path = Path(argument).expanduser()
    if not path.is_file() and "@" in argument:
        file, _, root = argument.rpartition("@")
        return RecordSource(Path(file).expanduser(), Path(root).expanduser())
    return RecordSource(path)
