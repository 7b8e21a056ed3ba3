"""Exposure pairs: their order, the detail that is lost and the detail that is kept."""

import numpy as np

from ditfuse_jax.degrade import exposure_pair


def ramp():
    return np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (64, 1, 3))


def test_the_one_is_darker_and_the_other_brighter_than_the_photograph():
    for seed in range(20):
        pair = exposure_pair(ramp(), np.random.default_rng(seed))
        under, over = (x.mean(axis=(0, 2)) for x in (pair.under, pair.over))
        middle = slice(20, 236)
        assert (under[middle] < np.arange(256)[middle] + 1).all()
        assert (over[middle] > np.arange(256)[middle] - 1).all()
        assert pair.stops[0] < 0 < pair.stops[1]


def test_highlights_clip_in_the_bright_exposure_and_shadows_lose_levels_in_the_dark_one():
    for seed in range(20):
        pair = exposure_pair(ramp(), np.random.default_rng(seed))
        over, under = (np.median(x, axis=(0, 2)) for x in (pair.over, pair.under))
        assert (over[-10:] == 255).all()
        levels_over = len(np.unique(np.rint(over[200:])))
        levels_under = len(np.unique(np.rint(under[:56])))
        assert levels_over < 56 and levels_under < 40  # of 56 each: steps are lost


def test_levels_are_far_enough_apart():
    """Where the bright exposure clips, the dark one still increases, and vice versa."""
    for seed in range(20):
        pair = exposure_pair(ramp(), np.random.default_rng(seed))
        means = [x.astype(float).mean(axis=(0, 2)) for x in (pair.under, pair.over)]
        apart = 16
        climbs = np.max([mean[apart:] - mean[:-apart] for mean in means], axis=0)
        assert climbs.min() > 0.5


def test_equal_generators_give_equal_pairs():
    first, again = (exposure_pair(ramp(), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.under, again.under)
    np.testing.assert_array_equal(first.over, again.over)
