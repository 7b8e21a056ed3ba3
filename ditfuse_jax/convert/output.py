"""Output folders: complete under their name, or not there at all."""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import check_folder, copy_file, make_folder, remove_folder
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.prompts.fingerprint import tokenizer_fingerprint
from ditfuse_jax.prompts.tokenizer import TOKENIZER_FILES, tokenizer_folder
from ditfuse_jax.weights import Checkpoint
from ditfuse_jax.weights.autoencoder import autoencoder_folder
from ditfuse_jax.weights.license import LICENSE, find_license

_AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yields a folder under a temporary name beside `output`, which is renamed to it at the end.

    For an object store it is a temporary local folder, which is copied there at the end.  After a
    failure nothing is left.

    Raises:
      UserError: `output` exists, or nothing can be written there.
    """
    output = as_path(output).absolute()
    if output.exists():
        raise UserError(f"{output} exists: choose another output or remove it first")
    if is_remote(output):
        yield from _new_remote_folder(output)
        return
    make_folder(output.parent)
    temporary = output.parent / f".{output.name}.{uuid.uuid4().hex}.partial"
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(output)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _new_remote_folder(output: Path) -> Iterator[Path]:
    check_folder(output)
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        remote: Any = output
        try:
            remote.upload(temporary)
        except BaseException:
            remove_folder(output)
            raise


def copy_companions(
    checkpoint: Checkpoint, folder: Path, autoencoder: Path, tokenizer: Path
) -> None:
    """Copies what belongs to weights: the autoencoder, the tokenizer and the licence.

    Args:
      checkpoint: the weights.
      folder: for the licence.
      autoencoder: the autoencoder's new folder.
      tokenizer: the tokenizer's new folder.
    """
    if checkpoint.autoencoder is not None:
        _copy(autoencoder_folder(checkpoint.autoencoder), autoencoder, _AUTOENCODER_FILES)
    if checkpoint.tokenizer is not None:
        _copy(tokenizer_folder(checkpoint.tokenizer), tokenizer, TOKENIZER_FILES)
    if terms := find_license(checkpoint):
        copy_file(terms, folder / LICENSE)


def fingerprint_of(checkpoint: Checkpoint) -> str | None:
    """Returns the fingerprint of the tokenizer that weights were trained with, if it is known.

    A tokenizer beside foreign weights is taken for the one that they were trained with.
    """
    if checkpoint.tokenizer_fingerprint or checkpoint.tokenizer is None:
        return checkpoint.tokenizer_fingerprint
    return tokenizer_fingerprint(checkpoint.tokenizer)


def progress_bar(checkpoint: Checkpoint, quiet: bool) -> tqdm.tqdm:
    """Returns a progress bar over the bytes of all parameters."""
    total = sum(x.size * x.dtype.itemsize for x in checkpoint.shapes().values())
    return tqdm.tqdm(total=total, unit="B", unit_scale=True, desc="converting", disable=quiet)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        if (source / name).is_file():
            copy_file(source / name, target / name)
