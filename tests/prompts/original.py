"""OmniGen's processing of prompts to token ids and image spans, restated with `tokenizers`.

It follows what the original's processor does (VectorSpaceLab/OmniGen, processor.py), without any of
our code: each piece of text between the placeholders is encoded by the tokenizer's defaults, BOS is
taken from all pieces but the first, and zeros stand where an image goes.
"""

import re
from typing import NamedTuple

from tokenizers import Tokenizer

BOS = 1


class Processed(NamedTuple):
    """One prompt.

    Attributes:
      ids: the whole condition; zeros where images go.
      spans: (start, stop) of every placed image.
      images: which image each span shows, from 0.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    images: list[int]


def process(tokenizer: Tokenizer, prompt: str, num_images: int, size: int) -> Processed:
    """Frames and encodes a prompt; `size` is the number of tokens of an image.

    With `num_images` 0 the prompt is text and nothing else, as the negative prompt is.
    """
    text = "<|user|>\nGenerate an image according to the following instructions\n" + prompt
    text += "<|end|>\n<|assistant|>\n<|diffusion|>"
    if num_images == 0:
        return Processed(tokenizer.encode(text).ids, [], [])
    numbers = [int(found) for found in re.findall(r"<\|image_(\d+)\|>", text)]
    assert sorted(set(numbers)) == list(range(1, num_images + 1))
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for k, piece in enumerate(re.split(r"<\|image_\d+\|>", text)):
        encoded = tokenizer.encode(piece).ids
        if k > 0:
            spans.append((len(ids), len(ids) + size))
            ids += [0] * size
            if encoded[0] == BOS:
                encoded = encoded[1:]
        ids += encoded
    return Processed(ids, spans, [number - 1 for number in numbers])


def image_only(num_images: int) -> str:
    """The prompt of the branch that sees the images and no instruction."""
    return " ".join(f"<img><|image_{k + 1}|></img>" for k in range(num_images))
