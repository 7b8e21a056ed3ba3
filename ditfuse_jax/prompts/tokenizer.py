"""Encodes prompts into the token ids of text slots.

The bundled tokenizer (`assets/`, made by data/build_tokenizer.py) is for presets that are trained
from scratch; OmniGen's weights need their folder with a Hugging Face `tokenizer.json`.
"""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import local_copy
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.slots import TextSlots
from ditfuse_jax.prompts.template import frame, has_placeholders, split_prompt
from ditfuse_jax.resources import resource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ditfuse_jax.prompts.fast_tokenizer import FastTokenizer

    Tokenizer = FastTokenizer | PreTrainedTokenizerFast

# All files that a tokenizer's folder may hold.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "tokenizer.model"),
)

# transformers' lazy modules fail if two threads import them first at the same time.
_LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """The model's input for a prompt with n image slots.

    Slots where the prompt places no image are masked.

    Attributes:
      tokens: int32 (T,), the text slots of `TextSlots.capacities(n)`, concatenated.
      valid: bool (T,), False for padding.
      image_valid: bool (n,), False for the slots that the prompt does not use.
      order: n indices from 0: image slot k shows image `order[k]`.
    """

    tokens: np.ndarray
    valid: np.ndarray
    image_valid: np.ndarray
    order: tuple[int, ...]


def tokenizer_folder(path: str | os.PathLike[str] | None = None) -> Path:
    """Returns the local folder of a tokenizer: the given one, or that of the bundled tokenizer.

    Of a folder in an object store this is a copy.

    Raises:
      UserError: it cannot be downloaded or copied.
    """
    if path is None:
        return resource("prompts", "assets")
    if hub.is_address(path):
        return hub.download(os.fspath(path), _tokenizer_files, "tokenizer.json")
    folder = as_path(path)
    copy = local_copy(folder, TOKENIZER_FILES)
    if copy != folder and not (copy / "tokenizer.json").is_file():
        raise _missing(folder)
    return copy


def load_tokenizer(path: str | os.PathLike[str] | None = None) -> "Tokenizer":
    """Returns the bundled tokenizer, or the one in a folder, here or on the Hub.

    A process reads each folder once; data workers call this instead of unpickling a tokenizer.

    Raises:
      UserError: the folder has no readable `tokenizer.json`.
    """
    folder = tokenizer_folder(path)
    if not (folder / "tokenizer.json").is_file():
        raise _missing(folder)
    with _LOADING:
        return _load(folder.resolve())


def encode_prompt(
    tokenizer: "Tokenizer",
    prompt: str,
    num_images: int,
    slots: TextSlots,
    num_slots: int | None = None,
) -> EncodedPrompt:
    """Puts the prompt into the chat frame and returns its tokens in their slots.

    The segments between the images are tokenized separately, as in OmniGen; BOS is only at the
    start, if the tokenizer adds it.  A prompt without placeholders, such as `CONDITION_DROPPED` or
    a negative prompt, shows no image, and its text may fill all text slots.

    Args:
      prompt: without the frame, e.g. from `task_prompt` or `image_only_prompt`.
      num_images: how many images there are.
      slots: capacities of the text slots.
      num_slots: how many image slots the condition has, n; by default as many as the prompt
        places, and at least one for each image.

    Raises:
      UserError: wrong placeholders (`split_prompt`), more of them than image slots, or a text too
        long (`TextSlots.pack`).
    """
    shown = num_images if has_placeholders(prompt) else 0
    split = split_prompt(frame(prompt), shown)
    pad_id = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    placed = len(split.order)
    count = max(placed, num_images) if num_slots is None else num_slots
    if placed > count:
        raise UserError(
            f"the prompt places {placed} images, repetitions included, but at most {count} "
            "are supported: remove some of the placeholders"
        )
    packed = slots.pack(_token_ids(tokenizer, split.segments), count, pad_id)
    unused = [k if k < num_images else 0 for k in range(placed, count)]
    return EncodedPrompt(
        tokens=packed.tokens,
        valid=packed.valid,
        image_valid=np.arange(count) < placed,
        order=(*split.order, *unused),
    )


def _tokenizer_files(names: Sequence[str]) -> list[str]:
    return [n for n in TOKENIZER_FILES if n in names] if "tokenizer.json" in names else []


def _token_ids(tokenizer: "Tokenizer", segments: Sequence[str]) -> list[list[int]]:
    ids = [tokenizer.encode(segment, add_special_tokens=False) for segment in segments]
    opening = tokenizer.encode("")[:1]
    if opening == [tokenizer.bos_token_id]:
        ids[0] = opening + ids[0]
    return ids


def _missing(folder: Path) -> UserError:
    return UserError(
        f"no tokenizer in {folder}: give a folder with tokenizer.json and tokenizer_config.json"
    )


@cache
def _load(folder: Path) -> "Tokenizer":
    # Imported here because prompts alone do not need them.
    from ditfuse_jax.prompts.fast_tokenizer import read_fast_tokenizer

    try:
        if tokenizer := read_fast_tokenizer(folder):
            return tokenizer
        return _load_with_transformers(folder)
    except Exception as error:  # the Rust parser raises no narrower class
        reason = " ".join(str(error).split())
        raise UserError(
            f"the tokenizer in {folder} is unreadable ({reason}): replace it"
        ) from error


def _load_with_transformers(folder: Path) -> "PreTrainedTokenizerFast":
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # about the missing PyTorch
    from transformers import PreTrainedTokenizerFast

    # Not AutoTokenizer: for OmniGen's folder it chooses a class that rebuilds the tokenizer; this
    # class uses tokenizer.json unchanged, like OmniGen's version of transformers.
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
    options = {}
    if str(config.get("tokenizer_class")).startswith("Llama"):
        options["add_bos_token"] = config.get("add_bos_token", True)  # the class's default
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)
