import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import TextSlots

SLOTS = TextSlots(first=4, middle=2, last=3)


@pytest.mark.parametrize(
    ("num_images", "capacities"), [(0, (7,)), (1, (4, 3)), (2, (4, 2, 3)), (4, (4, 2, 2, 2, 3))]
)
def test_there_is_one_slot_more_than_images(num_images, capacities):
    assert SLOTS.capacities(num_images) == capacities


def test_segments_start_at_their_slots_and_are_padded_behind():
    packed = SLOTS.pack([[5, 6], [], [7, 8, 9]], num_images=2, pad_id=1)
    assert packed.tokens.tolist() == [5, 6, 1, 1, 1, 1, 7, 8, 9]
    assert packed.valid.tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 1]
    assert packed.tokens.dtype == np.int32 and packed.valid.dtype == bool


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 3))
def test_text_without_images_runs_through_all_slots(length, num_images):
    total = sum(SLOTS.capacities(num_images))
    text = list(range(1, min(length, total) + 1))
    packed = SLOTS.pack([text], num_images)
    assert packed.tokens[: len(text)].tolist() == text
    assert packed.valid.tolist() == [True] * len(text) + [False] * (total - len(text))


@pytest.mark.parametrize(("length", "fits"), [(7, True), (8, False)])
def test_the_text_after_the_last_used_image_fills_the_remaining_slots(length, fits):
    def pack():
        return SLOTS.pack([[5], [6] * length], num_images=3)  # slots of 4, 2, 2 and 3 tokens

    if not fits:
        with pytest.raises(UserError, match=r"after the last image has 8 tokens.* limit of 7"):
            pack()
        return
    assert pack().tokens.tolist() == [5, 0, 0, 0, *[6] * 7]


@settings(deadline=None)
@given(st.data(), st.integers(1, 4))
def test_segments_that_fit_are_packed_in_order_without_loss(data, num_images):
    capacities = SLOTS.capacities(num_images)
    lengths = [data.draw(st.integers(0, capacity)) for capacity in capacities]
    starts = np.cumsum((0, *lengths))
    segments = [
        list(range(a, a + n)) for a, n in zip(starts, lengths, strict=False)
    ]  # consecutive ids
    packed = SLOTS.pack(segments, num_images, pad_id=-1)
    assert packed.tokens[packed.valid].tolist() == list(range(sum(lengths)))
    ends = np.cumsum(capacities)
    filled = [packed.valid[e - c : e].sum() for e, c in zip(ends, capacities, strict=True)]
    assert filled == lengths


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[0] * 5, [], []], "before the first image has 5 tokens, 1 more than the limit of 4"),
        ([[], [0] * 4, []], "between images 1 and 2 has 4 tokens, 2 more than the limit of 2"),
        ([[], [], [0] * 9], "after the last image has 9 tokens, 6 more than the limit of 3"),
        ([[0] * 10], "without images has 10 tokens, 1 more than the limit of 9"),
    ],
)
def test_the_error_for_a_long_text_names_slot_limit_and_surplus(segments, message):
    with pytest.raises(UserError, match=f"{message}: shorten the prompt"):
        SLOTS.pack(segments, 2)


@pytest.mark.parametrize("segments", [[], [[1]] * 4])
def test_a_wrong_number_of_segments_is_refused(segments):
    with pytest.raises(ValueError, match="text segments for 3 slots"):
        SLOTS.pack(segments, 2)


@pytest.mark.parametrize("name", ["first", "middle", "last"])
def test_a_slot_without_capacity_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"`{name}`"):
        TextSlots(**{"first": 1, "middle": 1, "last": 1, name: 0})
