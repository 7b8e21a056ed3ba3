"""Context parallelism: the same numbers as on one device, with less memory per device."""

import itertools

import numpy as np
import pytest

from ditfuse_jax.model.attention.context_parallel import pad_queries, slice_queries
from ditfuse_jax.model.layout import Layout

LAYOUT = Layout(text=(5, 3, 6), grid=(2, 3), draws=2)
MASKS = {
    "training": LAYOUT.full_mask,
    "condition": LAYOUT.condition_mask,
    "draw": LAYOUT.draw_mask,
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_masks_of_all_shards_together_are_the_mask(name, count):
    mask = MASKS[name]
    padded = pad_queries(mask, -mask.num_queries % count)
    size = padded.num_queries // count
    runs = [slice_queries(padded, size * i, size * (i + 1)) for i in range(count)]
    assert all(run.num_queries == size for run in runs)
    joined = np.concatenate([run.dense() for run in runs])
    np.testing.assert_array_equal(joined[: mask.num_queries], mask.dense())


def test_the_pairs_of_all_shards_sum_to_those_of_the_mask():
    mask = LAYOUT.full_mask
    edges = np.linspace(0, mask.num_queries, 5).astype(int)
    pairs = [slice_queries(mask, a, b).num_pairs() for a, b in itertools.pairwise(edges)]
    assert sum(pairs) == mask.num_pairs()


def test_padded_queries_attend_to_a_key():
    padded = pad_queries(LAYOUT.full_mask, 3).dense()
    assert padded[-3:].any(axis=1).all()
    assert padded.shape == (LAYOUT.length + 3, LAYOUT.length)


@pytest.fixture(scope="module")
def report(on_eight_devices):
    """Output of `context_parallel_devices.py`."""
    return on_eight_devices("model/attention/context_parallel_devices.py")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("mesh", ["context=4", "fsdp=2 context=2 tensor=2"])
@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_a_sharded_sequence_of_indivisible_length_gives_the_numbers_of_one_device(
    report, mesh, what
):
    assert report["cases"][mesh][what] < 1e-5


@pytest.mark.slow
@pytest.mark.processes
def test_sampling_with_a_sharded_sequence_gives_the_images_of_one_device(report):
    assert report["cases"]["fsdp=2 context=2 tensor=2"]["images"] < 1e-5


@pytest.mark.slow
@pytest.mark.processes
def test_four_devices_need_less_than_half_of_the_memory_per_device(report):
    one, four = (report["temporary bytes"][n] for n in ("1", "4"))
    assert four < 0.4 * one
