"""What neighbouring frames share: encoded conditions, and steadier static regions."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.sample import FusionInput, StackFuser, load_trained
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.static_smoothing import StaticSmoother, static_weights


def condition(value=0.0, token=1):
    images = np.full((2, 1, 16, 16, 3), value, np.float32)
    return SimpleNamespace(images=images, tokens=np.array([[token]]))


ENCODED = SimpleNamespace(key_values=(np.zeros(4),), target_bias=np.zeros(4))


def store(frames, groups=4):
    reuse = EncodingReuse(frames)
    reuse.next_frame()
    for group in range(groups):
        assert reuse.find("size", group, condition()) is None
        reuse.keep("size", group, condition(), ENCODED, groups)
    return reuse


def test_groups_take_turns_in_being_encoded_again():
    reuse, fresh = store(4), []
    for _ in range(8):
        reuse.next_frame()
        fresh.append([g for g in range(4) if reuse.find("size", g, condition()) is None])
    assert fresh == [[3], [2], [1], [0], [3], [2], [1], [0]]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (condition(0.1), True),
        (condition(0.2), False),
        (condition(token=2), False),
    ],
)
def test_another_scene_or_prompt_is_encoded_at_once(now, found):
    reuse = store(4)
    reuse.next_frame()
    assert (reuse.find("size", 0, now) is not None) == found
    assert reuse.find("another size", 0, now) is None


def test_nothing_is_kept_for_one_frame_or_beyond_the_memory():
    reuse = store(1)
    reuse.next_frame()
    assert all(reuse.find("size", g, condition()) is None for g in range(4))
    reuse = store(8, groups=1)
    reuse.keep("large", 0, condition(), ENCODED, 2**24)
    reuse.next_frame()
    assert reuse.find("size", 0, condition()) and reuse.find("large", 0, condition()) is None


def noisy(scene, seed, sigma=2.0):
    noise = np.random.default_rng(seed).normal(0, sigma, scene.shape[:2])[..., None]
    return np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene():
    rows, columns = np.indices((96, 96))
    grey = 120 + 60 * np.sin(columns / 6) * np.cos(rows / 8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_static_regions_are_steadied_and_keep_their_mean(scene):
    smoother, before, after = StaticSmoother(0.3), [], []
    for k in range(12):
        fused = noisy(scene, 100 + k, 3.0).astype(np.uint16) * 257
        before.append(fused / 257)
        after.append(smoother(k, [noisy(scene, k), noisy(scene, 50 + k)], fused) / 257)
    raw, steady = (np.diff(frames, axis=0)[3:].std() for frames in (before, after))
    # A recursive filter with the share a: sqrt((1 - a)**2 / (1 + a)) of the changes.
    assert steady / raw == pytest.approx(0.7 / np.sqrt(1.3), rel=0.06)
    assert np.mean(after) == pytest.approx(np.mean(before), abs=0.05)


def test_what_moves_is_not_mixed(scene):
    smoother = StaticSmoother(0.5)
    for k in range(4):
        seen = scene.copy()
        seen[30:60, 10 + 8 * k : 40 + 8 * k] = 230
        fused = noisy(seen, 9 + k)
        found = smoother(k, [noisy(seen, k), noisy(seen, 20 + k)], fused)
        for left in (10, 40):  # what is uncovered, and what is covered
            edge = np.s_[30:60, left + 8 * (k - 1) : left + 8 * k]
            np.testing.assert_array_equal(found[edge], fused[edge])


def test_moving_cameras_and_changing_light_are_not_taken_for_noise(scene):
    grey = scene[..., 0].astype(np.float32)
    moved, brighter = np.roll(grey, 3, axis=1), grey + 10
    assert static_weights([grey], [moved]).mean() < 0.2
    assert static_weights([grey], [brighter]).max() == 0
    assert static_weights([grey], [grey + 0.3]).min() == 1


def test_a_frame_that_does_not_follow_the_last_is_left_as_it_is(scene):
    smoother = StaticSmoother(0.5)
    frames = [noisy(scene, k) for k in range(3)]
    np.testing.assert_array_equal(smoother(0, [scene], frames[0]), frames[0])
    np.testing.assert_array_equal(smoother(2, [scene], frames[1]), frames[1])
    assert (smoother(3, [scene], frames[2]) != frames[2]).any()


def test_smoothing_a_large_frame_holds_its_sources_in_their_own_type():
    values = np.random.default_rng(0).integers(0, 255, (2, 3, 512, 512, 3), np.uint8)
    smoother = StaticSmoother()
    tracemalloc.start()
    for number, (*sources, fused) in enumerate(values):
        smoother(number, sources, fused)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Per pixel: 12 bytes of sources, 24 of both fused frames, and few channels of float32.
    assert peak < 80 * 512 * 512


@pytest.mark.parametrize("settings", [{"reuse": 0}, {"smoothing": 1.0}, {"smoothing": -0.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=f"^{next(iter(settings))} "):
        SequenceSettings(**settings)


@pytest.mark.slow
def test_frames_that_are_fused_ahead_are_the_same(scene):
    trained = load_trained("small")
    sampling = trained.sampling.override({"tile": 64})
    prompt = standard_prompt("ivif", 2)

    def frames(failing=False):
        for k in range(6):
            if failing and k == 4:
                raise UserError("a damaged frame")
            yield k, FusionInput([noisy(scene, k // 2), noisy(255 - scene, 50 + k)], prompt)

    alone = list(SequenceFuser(trained, sampling, [prompt], 2)(frames()))
    ahead = list(SequenceFuser(trained, sampling, [prompt], 2, ahead=True)(frames()))
    assert [number for number, _ in ahead] == [0, 1, 2, 3, 4, 5]
    for (_, one), (_, other) in zip(alone, ahead, strict=True):
        np.testing.assert_array_equal(one, other)
    found = []
    with pytest.raises(UserError, match=r"^a damaged frame$"):
        for number, _ in SequenceFuser(trained, sampling, [prompt], 2, ahead=True)(frames(True)):
            found.append(number)
    assert found == [0, 1, 2, 3]


@pytest.mark.slow
def test_reused_conditions_change_little(scene):
    trained = load_trained("small")
    sampling = trained.sampling.override({"tile": 64})
    prompt = standard_prompt("ivif", 2)
    frames = [
        (k, FusionInput([noisy(scene, k), noisy(255 - scene, 50 + k)], prompt)) for k in range(4)
    ]
    exact = {}
    for done in StackFuser(trained, sampling).fuse_iter(frames):
        exact |= done
    fuser = SequenceFuser(trained, sampling, [prompt], 2, SequenceSettings(8, 0))
    found = dict(fuser(frames))
    assert sorted(found) == sorted(exact) == [0, 1, 2, 3]
    np.testing.assert_allclose(found[0].astype(float), exact[0], atol=1)
    for k in (1, 2, 3):
        error = np.square(found[k].astype(float) - exact[k]).mean()
        assert 0 < 10 * np.log10(255**2 / error) < np.inf
        assert 10 * np.log10(255**2 / error) > 45
