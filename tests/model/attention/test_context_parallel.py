"""The sequence over several devices: the same numbers, and less memory on each."""

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
def test_the_runs_of_all_devices_are_the_mask_row_by_row(name, count):
    mask = MASKS[name]
    padded = pad_queries(mask, -mask.num_queries % count)
    size = padded.num_queries // count
    runs = [slice_queries(padded, size * i, size * (i + 1)) for i in range(count)]
    assert all(run.num_queries == size for run in runs)
    joined = np.concatenate([run.dense() for run in runs])
    np.testing.assert_array_equal(joined[: mask.num_queries], mask.dense())


def test_a_run_has_no_work_but_its_own_pairs():
    mask = LAYOUT.full_mask
    edges = np.linspace(0, mask.num_queries, 5).astype(int)
    pairs = [slice_queries(mask, a, b).num_pairs() for a, b in itertools.pairwise(edges)]
    assert sum(pairs) == mask.num_pairs()


def test_queries_of_the_padding_see_something_so_that_they_stay_finite():
    padded = pad_queries(LAYOUT.full_mask, 3).dense()
    assert padded[-3:].any(axis=1).all()
    assert padded.shape == (LAYOUT.length + 3, LAYOUT.length)


@pytest.fixture(scope="module")
def report(on_eight_devices):
    """What `context_parallel_devices.py` found."""
    return on_eight_devices("model/attention/context_parallel_devices.py")


@pytest.mark.processes
@pytest.mark.parametrize("mesh", ["context=4", "fsdp=2 context=2 tensor=2"])
@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_a_spread_sequence_gives_one_device_s_numbers_though_no_length_divides(report, mesh, what):
    assert report["cases"][mesh][what] < 1e-5


@pytest.mark.processes
def test_sampling_over_a_spread_sequence_gives_one_device_s_images(report):
    assert report["cases"]["fsdp=2 context=2 tensor=2"]["images"] < 1e-5


@pytest.mark.processes
def test_each_device_holds_its_share_of_the_activations(report):
    one, four = (report["temporary bytes"][n] for n in ("1", "4"))
    assert four < 0.4 * one
