"""Token ids and image spans equal those of the original processor."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from ditfuse_jax.prompts import (
    TextSlots,
    encode_prompt,
    image_only_prompt,
    load_tokenizer,
    task_prompt,
)

SLOTS = TextSlots(150, 150, 150)
PATCHES = 6

PROMPTS = {
    "one image": (task_prompt("SEG", None, "Mark every car.", 1), 1),
    "infrared and visible": (task_prompt("FUSION", "MULTI-MODALITIES", "Keep the heat.", 2), 2),
    "three images": (task_prompt("FUSION", "MULTI-EXPOSURE", "Merge them.", 3), 3),
    "four images": (task_prompt("FUSION", None, "Merge them all, please.", 4), 4),
    "a long instruction": (task_prompt("FUSION", "MULTI-FOCUS", "Sharper, brighter. " * 6, 2), 2),
    "no tags": ("Put <img><|image_1|></img> and <img><|image_2|></img> together", 2),
    "swapped": (
        "From <img><|image_2|></img> the sky, from <img><|image_1|></img> the rest",
        2,
    ),
    "one image twice": ("<img><|image_1|></img> then again <img><|image_1|></img>.", 1),
    "repeated and swapped": ("<|image_2|> on <|image_1|> like <|image_2|>, softly", 2),
    "nothing around": ("<|image_1|><|image_2|>", 2),
    "at both ends": ("<|image_2|> over <|image_1|>", 2),
    "other scripts": ("请融合 <img><|image_1|></img> и <img><|image_2|></img> 🙂 café", 2),
    "white space": ("  <img><|image_1|></img>\n\n\t<img><|image_2|></img>   now  ", 2),
    "images only": (image_only_prompt(3), 3),
    "no image": ("low quality, blurry, jpeg artifacts", 0),
    "dropped": ("<cfg>", 0),
}


def unpacked(encoded, num_slots: int) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """The same for our fixed slots: real tokens and shown images in order."""
    ids, spans, shown, start = [], [], [], 0
    for slot, capacity in enumerate(SLOTS.capacities(num_slots)):
        stop = start + capacity
        ids += encoded.tokens[start:stop][encoded.valid[start:stop]].tolist()
        start = stop
        if slot < num_slots and encoded.image_valid[slot]:
            spans.append((len(ids), len(ids) + PATCHES))
            ids += [0] * PATCHES
            shown.append(encoded.order[slot])
    return ids, spans, shown


@pytest.fixture(scope="module", params=[True, False], ids=["image tokens", "plain image text"])
def folder(request, omnigen_folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("tokenizer")
    omnigen_folder.write_tokenizer(made, image_tokens=request.param)
    return made


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("more_slots", [0, 1])
def test_ids_and_spans_are_the_original_s(original, folder, name, more_slots):
    prompt, num_images = PROMPTS[name]
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = original.process(plain, prompt, num_images, PATCHES)
    # A guidance branch uses the layout of the instruction, which may show more images.
    num_slots = max(len(expected.spans), num_images) + more_slots
    encoded = encode_prompt(load_tokenizer(folder), prompt, num_images, SLOTS, num_slots)
    assert len(encoded.order) == len(encoded.image_valid) == num_slots
    assert max(encoded.order, default=0) < max(num_images, 1)
    assert unpacked(encoded, num_slots) == expected


def test_bos_occurs_once_at_the_start(original, folder):
    for prompt, num_images in PROMPTS.values():
        encoded = encode_prompt(load_tokenizer(folder), prompt, num_images, SLOTS)
        tokens = encoded.tokens[encoded.valid]
        assert tokens[0] == original.BOS
        assert np.count_nonzero(tokens == original.BOS) == 1
