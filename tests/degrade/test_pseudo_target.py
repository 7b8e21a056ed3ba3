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


def scene():
    """Visible: texture left, flat right.  Infrared: flat left, a warm body right."""
    random = np.random.default_rng(0)
    visible = np.full((64, 96, 3), 90, np.uint8)
    visible[:, :48] = random.integers(40, 200, (64, 48, 1), dtype=np.uint8)
    visible[..., 0] += 20  # the visible image has colour
    infrared = np.full((64, 96, 3), 60, np.uint8)
    infrared[20:44, 64:84] = 240
    return visible, infrared


@pytest.mark.parametrize("name", ["pyramid", "gradient", "detail"])
class TestBetterTargets:
    """Targets that choose between sources, unlike the mean."""

    def test_texture_and_warm_bodies_come_through_stronger_than_in_the_mean(self, name):
        visible, infrared = scene()
        better, mean = (
            PSEUDO_TARGETS[n]([visible, infrared]).astype(float).mean(axis=2)
            for n in (name, "mean")
        )
        assert better[8:56, 8:40].std() > 1.5 * mean[8:56, 8:40].std()
        body, around = (slice(26, 38), slice(70, 78)), (slice(2, 12), slice(70, 78))
        assert better[body].mean() - better[around].mean() > 1.3 * (
            mean[body].mean() - mean[around].mean()
        )

    def test_the_order_of_the_sources_does_not_matter(self, name):
        visible, infrared = scene()
        one, other = (
            PSEUDO_TARGETS[name](pair).astype(int)
            for pair in ([visible, infrared], [infrared, visible])
        )
        assert np.abs(one - other).max() <= 1

    def test_equal_sources_are_returned_as_their_fusion(self, name):
        visible, _ = scene()
        fused = PSEUDO_TARGETS[name]([visible, visible])
        assert np.abs(fused.astype(int) - visible).max() <= 6  # of the colour conversion

    @pytest.mark.parametrize("size", [(33, 47), (16, 16), (8, 200)])
    def test_any_size_is_fused_and_flat_images_stay_flat(self, name, size):
        flat = [np.full((*size, 3), value, np.uint8) for value in (80, 160)]
        fused = PSEUDO_TARGETS[name](flat)
        assert fused.shape == flat[0].shape and fused.dtype == np.uint8
        assert fused.max() - fused.min() <= 3
        assert 79 <= fused.mean() <= 161
