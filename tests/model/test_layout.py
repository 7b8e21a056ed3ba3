"""Slots, positions and the attention mask, compared with docs/method.md, Sequence and Attention."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.model import Layout

layouts = st.builds(
    Layout,
    text=st.lists(st.integers(1, 4), min_size=2, max_size=5).map(tuple),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    draws=st.integers(1, 3),
)


def describe(layout: Layout) -> list[tuple[str, int]]:
    """Returns (kind, block) of every token of the sequence, built token by token."""
    patches = layout.grid[0] * layout.grid[1]
    tokens = []
    for index, capacity in enumerate(layout.text):
        if index > 0:
            tokens += [("image", index)] * patches
        tokens += [("text", index)] * capacity
    for draw in range(layout.draws):
        tokens += [("time", draw)] + [("target", draw)] * patches
    return tokens


def attends(tokens: list[tuple[str, int]], query: int, key: int) -> bool:
    """Returns whether one token attends to another."""
    (query_kind, query_block), (key_kind, key_block) = tokens[query], tokens[key]
    if key_kind in ("time", "target"):
        # Targets attend to their own draw, the time token to itself, no other token to them.
        if query_kind == "target":
            return query_block == key_block
        return query == key
    if query_kind in ("time", "target"):
        return True
    if query_kind == key_kind == "image" and query_block == key_block:
        return True
    return key <= query


@given(layouts)
def test_slots_tile_the_condition(layout):
    starts = [slot.start for slot in layout.slots]
    stops = [slot.stop for slot in layout.slots]
    assert starts == [0, *stops[:-1]]
    assert stops[-1] == layout.condition_length


@given(layouts)
def test_every_token_is_in_a_slot_of_its_kind(layout):
    kinds = [kind for slot in layout.slots for kind in [slot.kind] * (slot.stop - slot.start)]
    expected = [kind for kind, _ in describe(layout)]
    assert kinds == expected[: layout.condition_length]
    assert layout.length == len(expected)


@given(layouts)
def test_the_full_mask_follows_the_rules_of_attention(layout):
    tokens = describe(layout)
    size = range(len(tokens))
    expected = [[attends(tokens, query, key) for key in size] for query in size]
    np.testing.assert_array_equal(layout.full_mask.dense(), expected)


@given(layouts)
def test_the_masks_for_sampling_are_parts_of_the_full_mask(layout):
    full, length = layout.full_mask.dense(), layout.condition_length
    np.testing.assert_array_equal(layout.condition_mask.dense(), full[:length, :length])
    one = slice(length, length + layout.draw_length)
    keys = np.r_[0:length, one]
    np.testing.assert_array_equal(layout.draw_mask.dense(), full[one][:, keys])


@given(layouts)
def test_the_counted_pairs_are_those_of_the_dense_matrix(layout):
    for mask in (layout.full_mask, layout.condition_mask, layout.draw_mask):
        assert mask.num_pairs() == mask.dense().sum()


def test_equal_layouts_and_masks_have_equal_hashes():
    one, same = (Layout(text=(3, 2, 4), grid=(2, 3), draws=2) for _ in range(2))
    other = Layout(text=(3, 2, 5), grid=(2, 3), draws=2)
    assert len({one, same, other}) == 2
    assert len({one.full_mask, same.full_mask, other.full_mask}) == 2


@settings(max_examples=15)
@given(st.data())
def test_positions_do_not_count_padding(data):
    layout = Layout(text=(3, 2, 4), grid=(1, 2), draws=1)
    token_valid = np.array(data.draw(st.lists(st.booleans(), min_size=9, max_size=9)))
    image_valid = np.array(data.draw(st.lists(st.booleans(), min_size=2, max_size=2)))
    valid = np.asarray(layout.condition_valid(token_valid[None], jnp.asarray(image_valid)[None]))[0]
    positions, draw = (np.asarray(x)[0] for x in layout.positions(jnp.asarray(valid)[None]))

    a, b = image_valid
    first, middle, last = token_valid[:3], token_valid[3:5], token_valid[5:]
    np.testing.assert_array_equal(valid, [*first, a, a, *middle, b, b, *last])
    np.testing.assert_array_equal(positions[valid], np.arange(valid.sum()))
    np.testing.assert_array_equal(draw, valid.sum() + np.arange(3))


def test_join_puts_images_between_the_texts():
    layout = Layout(text=(2, 1, 3), grid=(1, 2))
    texts = jnp.arange(6.0).reshape(1, 6, 1)
    images = 10 + jnp.arange(4.0).reshape(1, 2, 2, 1)
    joined = layout.join(texts, images)[0, :, 0]
    np.testing.assert_array_equal(joined, [0, 1, 10, 11, 2, 12, 13, 3, 4, 5])


def test_the_mask_and_the_positions_agree_with_the_original_s_on_real_tokens(official):
    golden = official.golden
    condition = official.condition
    layout = official.model().layout(condition)
    valid = layout.condition_valid(condition.token_valid, condition.image_valid)
    positions = jnp.concatenate(layout.positions(valid), axis=1)
    for row, sample in enumerate(official.meta["batch"]):
        real = np.flatnonzero(np.r_[valid[row], np.ones(layout.draw_length, bool)])
        padding = golden["input_ids"].shape[1] - len(sample["ids"])  # on the left, in the original
        mask = golden["attention_mask"][row, padding:, padding:].astype(bool)
        np.testing.assert_array_equal(layout.full_mask.dense()[np.ix_(real, real)], mask)
        np.testing.assert_array_equal(positions[row][real], golden["position_ids"][row, padding:])


def test_positions_are_integers_and_a_layout_has_one_draw_by_default():
    layout = Layout(text=(2, 2), grid=(1, 1))
    assert layout.draws == 1
    for positions in layout.positions(jnp.ones((1, layout.condition_length), bool)):
        assert positions.dtype == jnp.int32
