"""When what was decided about a part of a frame is used again."""

import numpy as np
import pytest

from ditfuse_jax.sample.decision_reuse import DecisionReuse, block_means, has_changed

KEY, NAME = b"prompt", ("size", 0)


def scene(seed=0):
    return np.random.default_rng(seed).uniform(-0.8, 0.8, (2, 64, 64, 3)).astype("f4")


def seen(images, seed, sigma=2.0):
    """The means of a frame with the noise of a camera, in values of 255."""
    noise = np.random.default_rng(seed).normal(0, sigma / 127.5, images.shape)
    return block_means((images + noise).astype("f4"))


def test_means_are_those_of_squares_of_eight_pixels():
    images = scene()
    found = block_means(images)
    assert found.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(found[1, 2, 3], images[1, 16:24, 24:32].mean((0, 1)), atol=1e-6)


def test_equal_sources_and_noise_are_no_change():
    assert not has_changed(block_means(scene()), block_means(scene()))
    for sigma in (1.0, 2.0, 8.0):
        pairs = ((seen(scene(), k, sigma), seen(scene(), 50 + k, sigma)) for k in range(20))
        assert not any(has_changed(*pair) for pair in pairs)


@pytest.mark.parametrize("source", [0, 1])
def test_a_small_thing_that_appears_in_one_source_is_a_change(source):
    now = scene()
    now[source, 20:24, 30:34] += 0.5  # 4x4 pixels, a quarter of the range
    assert has_changed(seen(scene(), 1), seen(now, 2))


def test_a_moving_camera_is_a_change_although_all_squares_differ():
    smooth = np.sin(np.arange(64) / 4.0, dtype="f4")
    images = np.broadcast_to(smooth[None, None, :, None], (2, 64, 64, 3)).astype("f4")
    assert has_changed(block_means(images), block_means(np.roll(images, 3, axis=2)))


def test_light_that_changes_a_little_in_every_frame_is_a_change_after_some():
    reuse, found = DecisionReuse(50), []
    for k in range(12):
        reuse.next_frame()
        means = block_means(scene() + np.float32(0.005 * k))
        found.append(reuse.find(NAME, 1, means, KEY) is not None)
        if not found[-1]:
            reuse.keep(NAME, means, KEY, "values")
    assert found.index(False, 1) == 5  # the first change of more than 0.024


def test_a_still_part_is_computed_again_in_turns_and_another_prompt_at_once():
    reuse, fresh = DecisionReuse(4), []
    means = block_means(scene())
    for _ in range(9):
        reuse.next_frame()
        assert reuse.find(NAME, 0, means, b"other") is None
        fresh.append([t for t in (0, 1) if reuse.find(("size", t), t, means, KEY) is None])
        for turn in fresh[-1]:
            reuse.keep(("size", turn), means, KEY, "values")
    assert fresh == [[0, 1], [], [], [1], [0], [], [], [1], [0]]
