"""For any text around the images, ids and spans are those of OmniGen's processor."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ditfuse_jax.prompts import (
    CONDITION_DROPPED,
    MAX_IMAGES,
    EncodedPrompt,
    TextSlots,
    encode_prompt,
    load_tokenizer,
)

SIZE = 6
NEGATIVE = (
    "low quality, jpeg artifacts, ugly, duplicate, mutated hands, poorly drawn face, deformed, "
    "blurry, dehydrated, bad anatomy, bad proportions, cloned face, too many fingers."
)


@pytest.fixture(scope="module", params=[True, False], ids=["image tokens", "image text"])
def tokenizers(request, omnigen_folder, tmp_path_factory):
    """A tokenizer of OmniGen's class, as loaded here and by `tokenizers` alone."""
    folder = tmp_path_factory.mktemp("tokenizer")
    omnigen_folder.write_tokenizer(folder, image_tokens=request.param)
    return load_tokenizer(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


def flat(encoded: EncodedPrompt, slots: TextSlots):
    """The model's input: real tokens in order, with the blocks of present images between."""
    cuts = list(itertools.accumulate(slots.capacities(len(encoded.order))))[:-1]
    texts = zip(np.split(encoded.tokens, cuts), np.split(encoded.valid, cuts), strict=True)
    ids, spans = [], []
    for k, (tokens, valid) in enumerate(texts):
        if k > 0 and encoded.image_valid[k - 1]:
            spans.append((len(ids), len(ids) + SIZE))
            ids += [0] * SIZE
        ids += tokens[valid].tolist()
    shown = [k for k, valid in zip(encoded.order, encoded.image_valid, strict=True) if valid]
    return ids, spans, shown


@settings(max_examples=100)
@given(data=st.data())
def test_any_text_around_any_images_is_the_original_s(tokenizers, original, data):
    ours, bare = tokenizers
    num_images = data.draw(st.integers(1, MAX_IMAGES))
    repeats = data.draw(st.lists(st.integers(1, num_images), max_size=MAX_IMAGES - num_images))
    numbers = data.draw(st.permutations([*range(1, num_images + 1), *repeats]))
    words = st.text(max_size=12) | st.sampled_from(["<img>", "</img> ", "\n", "<|end|>", " <s>"])
    texts = [data.draw(words) for _ in range(len(numbers) + 1)]
    prompt = texts[0] + "".join(
        f"<|image_{number}|>{text}" for number, text in zip(numbers, texts[1:], strict=True)
    )
    num_slots = data.draw(st.none() | st.integers(len(numbers), MAX_IMAGES))
    slots = TextSlots(200, 100, 200)
    encoded = encode_prompt(ours, prompt, num_images, slots, num_slots)
    assert flat(encoded, slots) == original.process(bare, prompt, num_images, SIZE)


@pytest.mark.parametrize("num_images", [1, 2, MAX_IMAGES])
@pytest.mark.parametrize("prompt", [NEGATIVE, CONDITION_DROPPED, ""])
def test_a_text_alone_runs_past_the_images_it_does_not_show(
    tokenizers, original, prompt, num_images
):
    ours, bare = tokenizers
    slots = TextSlots(first=30, middle=20, last=200)
    encoded = encode_prompt(ours, prompt, num_images, slots)
    assert flat(encoded, slots) == original.process(bare, prompt, 0, SIZE)


def test_the_stand_in_tokenizer_has_the_habits_that_make_this_hard(tokenizers):
    _, bare = tokenizers
    assert bare.encode("").ids == [1]  # BOS on every piece
    assert bare.encode("keep").tokens[1].startswith("▁")  # a space before every piece
    assert bare.encode("<|end|>\n").ids == bare.encode("<|end|>").ids  # the white space is removed
    assert "<0xF0>" in bare.encode("🌉").tokens  # bytes where the vocabulary ends
