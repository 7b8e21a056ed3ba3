"""Which files `ditfuse fuse` writes, and what each is made from."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import WRITTEN_SUFFIXES
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.folder_job import Inputs, find_inputs
from ditfuse_jax.sample.instructions import Instruction, make_instruction


@dataclasses.dataclass(frozen=True)
class PlannedOutput:
    """An image to write.

    Attributes:
      sources: the files that are fused.
      instruction: the full prompt, and what it asks for.
      path: the file to write.
      name: of the stack.
    """

    sources: tuple[Path, ...]
    instruction: Instruction
    path: Path
    name: str = ""


def plan_outputs(
    inputs: Sequence[Path] | Inputs,
    output: Path,
    prompts: Sequence[str],
    task: str,
    sampling: SamplingConfig | None = None,
    adjustments: Sequence[Request] = (),
) -> list[PlannedOutput]:
    """Returns the files to write and what each is made from; see `fuse`.

    With several prompts the files are numbered: `name-1.png`, `name-2.png`, ...

    Raises:
      UserError: the inputs do not belong together, the task is unknown, a prompt is bad, or the
        output is not an image file or is one of the inputs.
    """
    job = inputs if isinstance(inputs, Inputs) else find_inputs(inputs)
    output = as_path(output)
    stacks = list(job.found.stacks.items())
    as_folder = bool(job.folders) or len(prompts) > 1 or output.is_dir()
    count = len(stacks[0][1])
    sampling = sampling or SamplingConfig()
    texts = [
        make_instruction(text, count, sampling, task, adjustments) for text in prompts or [None]
    ]
    outputs = []
    for stem, paths in stacks:
        for number, instruction in enumerate(texts, start=1):
            name = stem if len(texts) == 1 else f"{stem}-{number}"
            path = output / f"{name}.png" if as_folder else output
            outputs.append(PlannedOutput(paths, instruction, path, stem))
    if as_folder and output.is_file():
        raise UserError(f"{output} is a file: several images need a folder as output")
    if not as_folder and output.suffix.lower() not in WRITTEN_SUFFIXES:
        known = " ".join(sorted(WRITTEN_SUFFIXES))
        raise UserError(f"{output}: no image format has the suffix {output.suffix!r} ({known})")
    sources = {_real(path) for planned in outputs for path in planned.sources}
    for planned in outputs:
        if _real(planned.path) in sources:
            raise UserError(f"{planned.path} is one of the images to fuse: choose another output")
    for folder in job.folders:
        if _real(output) == _real(folder):
            raise UserError(f"{output} holds images to fuse: choose another output")
        if job.recursive and Path(_real(folder)) in Path(_real(output)).parents:
            raise UserError(
                f"{output} lies in {folder}, whose folders are searched too (--recursive): choose"
                " an output elsewhere"
            )
    return outputs


def check_not_written(path: Path, outputs: Sequence[PlannedOutput]) -> None:
    """Checks that a further file of a job is none of its images.

    Raises:
      UserError: it is.
    """
    if _real(path) in {_real(planned.path) for planned in outputs}:
        raise UserError(f"{path} is one of the fused images: choose another file")


def _real(path: Path) -> str:
    """Returns the path without links, by which files are compared."""
    return str(path) if is_remote(path) else os.path.realpath(path)


def read_prompts(path: Path) -> list[str]:
    """Reads a prompt file: one prompt per line; empty lines and lines starting with # are skipped.

    Raises:
      UserError: the file is missing, not UTF-8 or without a prompt.
    """
    try:
        lines = as_path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}): save the prompts as UTF-8 text"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the prompts in {path}: {error.strerror}") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise UserError(f"{path} holds no prompt: write one per line")
    return prompts
