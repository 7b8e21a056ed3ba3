"""Text slots of sequences: short, long enough, and the same image."""

import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer, task_prompt
from ditfuse_jax.sample import TrainedModel
from ditfuse_jax.sample.text_slots import with_short_slots
from ditfuse_jax.train import load_recipe, resolve

PROMPT = task_prompt("FUSION", None, "Join them.")
LONG = "a grey and blurred image " * 12


@pytest.fixture(scope="module")
def trained():
    recipe = resolve(load_recipe("nano_m3", []))
    return TrainedModel(
        None, None, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "nano"
    )


@pytest.mark.parametrize(
    "prompt", [PROMPT, "<|image_2|> then <|image_1|>", "<|image_1|> <|image_2|> <|image_1|>"]
)
@pytest.mark.parametrize("negative", ["<cfg>", LONG])
def test_slots_are_short_and_hold_every_text(trained, prompt, negative):
    sampling = trained.sampling.override(
        {"negative_prompt": negative, "guidance_scale": 2.0, "image_guidance_scale": 1.6}
    )
    found = with_short_slots(trained, sampling, [prompt], 2).text_slots
    tokenizer = load_tokenizer(trained.tokenizer)
    whole = TextSlots(*sampling.text_slots)
    slots = TextSlots(*found)
    for text in (prompt, negative):  # raises if one does not fit
        short = encode_prompt(tokenizer, text, 2, slots, 3)
        long = encode_prompt(tokenizer, text, 2, whole, 3)
        np.testing.assert_array_equal(short.tokens[short.valid], long.tokens[long.valid])
    assert all(a <= b for a, b in zip(found, sampling.text_slots, strict=True))
    assert sum(found) < 0.6 * sum(sampling.text_slots)


@pytest.mark.medium
def test_short_slots_change_no_image_but_by_rounding():
    fuser = Fuser.load("small", steps=1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2)]
    fused = fuser(*images)
    short = with_short_slots(fuser.trained, fuser.sampling, [fused.prompt], 2).text_slots
    assert short != fuser.sampling.text_slots
    found = fuser(*images, text_slots=short).image
    assert np.abs(found.astype(int) - fused.image).max() <= 1
