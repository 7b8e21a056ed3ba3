"""Text slots that are no longer than the prompts of a job need.

The tokens that pad a text slot are masked, but they are computed.  A single image shares its
compiled program with all other prompts; the frames of a sequence have one prompt, and a program of
their own pays.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.prompts import TextSlots, encode_prompt, image_only_prompt, load_tokenizer
from ditfuse_jax.sample.trained import TrainedModel

_MULTIPLE = 8  # of the lengths, so that similar prompts share a program


def with_short_slots(
    trained: TrainedModel, sampling: SamplingConfig, prompts: Sequence[str], count: int
) -> SamplingConfig:
    """Returns the settings with the shortest text slots that hold the prompts.

    Images are equal up to rounding.

    Args:
      trained: the model.
      sampling: its settings.
      prompts: full prompts, all that will be used.
      count: number of source images.
    """
    tokenizer = load_tokenizer(trained.tokenizer)
    slots = TextSlots(*sampling.text_slots)
    needed = np.ones(3, int)
    for prompt in (*prompts, image_only_prompt(count)):
        encoded = encode_prompt(tokenizer, prompt, count, slots)
        parts = np.split(encoded.valid, np.cumsum(slots.capacities(len(encoded.order)))[:-1])
        first, *middle, last = (int(part.sum()) for part in parts)
        needed = np.maximum(needed, [first, max(middle, default=1), last])
    first, middle, last = _rounded(needed).tolist()
    # A text without images may fill all slots.
    negative = encode_prompt(tokenizer, sampling.negative_prompt, count, slots).valid.sum()
    last += max(0, int(_rounded(negative - first - middle * (count - 1) - last)))
    fitting = tuple(np.minimum((first, middle, last), sampling.text_slots).tolist())
    return dataclasses.replace(sampling, text_slots=fitting)


def _rounded(lengths: np.ndarray) -> np.ndarray:
    return -(-lengths // _MULTIPLE) * _MULTIPLE
