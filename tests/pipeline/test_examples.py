"""Encoding examples into arrays."""

import numpy as np
import pytest

from ditfuse_jax.pipeline import ExampleEncoder
from ditfuse_jax.prompts import TextSlots, as_prompt, task_prompt
from ditfuse_jax.tasks import Example

SLOTS = TextSlots(24, 12, 48)
REPEATED = (
    "Take <img><|image_2|></img>, then <img><|image_1|></img>, then <img><|image_2|></img> again."
)


@pytest.fixture
def sources() -> tuple[np.ndarray, ...]:
    return tuple(np.full((16, 16, 3), value, np.uint8) for value in (10, 20))


def encode(sources, prompt, dropout=0.0):
    example = Example(sources, prompt, target=sources[0])
    return ExampleEncoder(SLOTS, condition_dropout=dropout)(example, np.random.default_rng(0))


def test_an_image_fills_every_slot_where_the_prompt_places_it(sources):
    arrays = encode(sources, REPEATED)
    assert arrays["images"][:, 0, 0, 0].tolist() == [20, 10, 20]
    assert arrays["image_valid"].all()


@pytest.mark.parametrize("prompt", [task_prompt("FUSION", None, "Merge."), REPEATED])
def test_a_dropped_condition_has_the_shape_of_the_kept_one(sources, prompt):
    kept, dropped = (encode(sources, prompt, dropout) for dropout in (0.0, 1.0))
    assert not dropped["image_valid"].any()
    shapes = [{name: x.shape for name, x in arrays.items()} for arrays in (kept, dropped)]
    assert shapes[0] == shapes[1]


def test_tags_are_dropped_with_their_probability(sources):
    prompt = task_prompt("CONTROL", "LIGHT+", "Brighter, please.")
    example = Example(sources, prompt, target=sources[0])
    plain = ExampleEncoder(SLOTS)(
        Example(sources, as_prompt("Brighter, please.", 2), sources[0]), np.random.default_rng(0)
    )
    encoder = ExampleEncoder(SLOTS, tag_dropout=0.25)
    rng = np.random.default_rng(0)
    left_out = [
        np.array_equal(encoder(example, rng)["tokens"], plain["tokens"]) for _ in range(400)
    ]
    assert 0.18 < np.mean(left_out) < 0.32
