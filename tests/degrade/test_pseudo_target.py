import numpy as np
import pytest

from ditfuse_jax.degrade import PSEUDO_TARGETS


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_mean_is_the_rounded_mean_without_overflow(count):
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(count)]
    sources[0][0] = 255
    target = PSEUDO_TARGETS["mean"](sources)
    assert target.dtype == np.uint8
    assert np.abs(target - np.mean(sources, axis=0)).max() <= 0.5
    np.testing.assert_array_equal(PSEUDO_TARGETS["mean"](sources[::-1]), target)
