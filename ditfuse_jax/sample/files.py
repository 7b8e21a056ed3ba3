"""Fusing files: a pair or a folder of pairs, with one prompt or many."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import (
    IMAGE_SUFFIXES,
    list_stacks,
    read_stack,
    write_image,
)
from ditfuse_jax.sample.fuser import Fuser, Job
from ditfuse_jax.sample.standard import standard_prompt
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained


@dataclasses.dataclass(frozen=True)
class Order:
    """One output file: sources, what is asked for, where it goes."""

    sources: tuple[Path, ...]
    prompt: str
    output: Path


def fuse(
    inputs: Sequence[Path],
    output: Path,
    *,
    checkpoint: Path,
    prompts: Sequence[str] = (),
    task: str = "fuse",
    changes: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    resize: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Fuses files into files.

    Args:
      inputs: two to four images, or one folder with `image1/`, `image2/`, ... of equal names.
      output: a file for one image with one prompt, else a folder.
      checkpoint: see `load_trained`.
      prompts: sentences or whole prompts; none means the standard prompt of `task`.
      task: see `standard_prompt`; sets the tags that frame a plain sentence.
      changes: sampling settings that differ from the model's own; see `SamplingConfig.override`.
      adapters: merged into the weights.
      base: where the weights under a run's adapters are now, if they were moved.
      resize: images of another size than the first of their stack are scaled to it.
      quiet: no progress bar.

    Returns:
      The files written.

    Raises:
      UserError: unreadable or unequal images, a bad prompt, an unwritable output.
    """
    trained = load_trained(checkpoint, adapters, base)
    sampling = trained.recipe.sampling.override(changes or {})
    fuser = Fuser(trained, sampling)
    orders = plan(inputs, output, prompts, task)
    for order in orders:
        fuser.check(order.prompt, len(order.sources))
    jobs = _read(orders, resize)
    jobs = itertools.chain([next(jobs)], jobs)  # a damaged first stack leaves no new folder
    for folder in {order.output.parent for order in orders}:
        make_folder(folder)
    started, written = time.monotonic(), []
    with tqdm.tqdm(total=len(orders), unit="img", desc="fusing", disable=quiet) as bar:
        for done in fuser.fuse_iter(jobs):
            for number, image in done.items():
                order = orders[number]
                write_image(order.output, image, _metadata(order, sampling, trained))
                written.append(order.output)
                bar.update()
    if not quiet:
        where = written[0] if len(written) == 1 else f"{len(written)} images in {output}"
        print(f"{where} ({time.monotonic() - started:.1f} s)")
    return sorted(written)


def plan(inputs: Sequence[Path], output: Path, prompts: Sequence[str], task: str) -> list[Order]:
    """Decides which files are made from which.

    With several prompts the outputs are numbered: `name-1.png`, `name-2.png`, ...

    Raises:
      UserError: inputs that do not belong together, an unknown task, a bad prompt, an output that
        is no image file or one of the inputs.
    """
    inputs = [Path(p).expanduser() for p in inputs]
    output = Path(output).expanduser()
    if len(inputs) == 1:
        if not inputs[0].is_dir():
            raise UserError(
                f"{inputs[0]}: give two images, or a folder with image1/ and image2/ inside"
            )
        stacks = [(stem, tuple(paths)) for stem, paths in list_stacks(inputs[0])]
        as_folder = True
    else:
        if len(inputs) > 4:
            raise UserError(f"{len(inputs)} images: at most four can be fused at once")
        stacks = [(inputs[0].stem, tuple(inputs))]
        as_folder = len(prompts) > 1 or output.is_dir()
    count = len(stacks[0][1])
    texts = [standard_prompt(task, count, text) for text in prompts or [None]]
    orders = []
    for stem, paths in stacks:
        for number, prompt in enumerate(texts, start=1):
            name = stem if len(texts) == 1 else f"{stem}-{number}"
            path = output / f"{name}.png" if as_folder else output
            orders.append(Order(paths, prompt, path))
    if as_folder and output.is_file():
        raise UserError(f"{output} is a file: several images need a folder as output")
    if not as_folder and output.suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{output}: no image format has the suffix {output.suffix!r} ({known})")
    for order in orders:
        existing = [source for source in order.sources if source.exists()]
        if order.output.exists() and any(map(order.output.samefile, existing)):
            raise UserError(f"{order.output} is one of the images to fuse: choose another output")
    return orders


def read_prompts(path: Path) -> list[str]:
    """Reads a prompt file: one prompt per line, empty lines and lines starting with # left out.

    Raises:
      UserError: the file is missing, not UTF-8 or holds no prompt.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
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


def _read(orders: Sequence[Order], resize: bool) -> Iterator[tuple[int, Job]]:
    for number, order in enumerate(orders):
        yield number, Job(read_stack(order.sources, resize=resize), order.prompt)


def _metadata(order: Order, sampling: SamplingConfig, trained: TrainedModel) -> dict[str, str]:
    return {
        "Software": "ditfuse_jax",
        "prompt": order.prompt,
        "sources": ", ".join(path.name for path in order.sources),
        "checkpoint": trained.name,
        **{name: str(value) for name, value in sampling.to_dict().items()},
    }
