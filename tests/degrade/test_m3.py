import hashlib
import json
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.degrade import DEGRADATIONS, M3_PRESETS, M3Config, degrade_views
from ditfuse_jax.errors import ContractError, UserError

SIZES = {"height": st.integers(1, 300), "width": st.integers(1, 300), "seed": st.integers(0, 2**32)}


def picture(height=256, width=256, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


def views_of(seed, image, config=M3_PRESETS["paper"]):
    return degrade_views(image, np.random.default_rng(seed), config)


def only(degradation, **options):
    return M3Config(degradations={degradation: 1}, **options)


def area(block):
    return slice(block.top, block.top + block.height), slice(block.left, block.left + block.width)


@given(**SIZES)
@settings(max_examples=40, deadline=None)
def test_the_blocks_tile_an_image_of_any_size_exactly_once(height, width, seed):
    views = views_of(seed, picture(height, width))
    covered = np.zeros((height, width), int)
    for block in views.blocks:
        covered[area(block)] += 1
    np.testing.assert_array_equal(covered, 1)
    for view in (views.view_a, views.view_b):
        assert view.shape == (height, width, 3) and view.dtype == np.uint8


@given(**SIZES)
@settings(max_examples=40, deadline=None)
def test_where_a_view_was_not_hit_it_is_the_clean_image_bitwise(height, width, seed):
    clean = picture(height, width)
    views = views_of(seed, clean)
    np.testing.assert_array_equal(clean, picture(height, width))
    for block in views.blocks:
        if "a" not in block.params:
            np.testing.assert_array_equal(views.view_a[area(block)], clean[area(block)])
        if "b" not in block.params:
            np.testing.assert_array_equal(views.view_b[area(block)], clean[area(block)])


@pytest.mark.parametrize("side", [16, 20])
def test_each_block_is_degraded_in_one_view_unless_it_is_recorded_for_both(side):
    clean = picture(120, 130)
    views = views_of(1, clean, only("mask", block_sides=(side,)))  # a mask changes any block
    changed_views = {"a": views.view_a, "b": views.view_b}
    for block in views.blocks:
        changed = [
            name
            for name, view in changed_views.items()
            if (view[area(block)] != clean[area(block)]).any()
        ]
        assert changed == (["a", "b"] if block.degraded_in == "both" else [block.degraded_in])


@pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 512), (128, 128)])
def test_exactly_a_quarter_of_the_blocks_is_hit_in_both_views(height, width):
    for seed in range(20):
        blocks = views_of(seed, picture(height, width), only("mask", block_sides=(32,))).blocks
        assert 4 * sum(block.degraded_in == "both" for block in blocks) == len(blocks)


@pytest.mark.parametrize("blocks_in_image", [1, 2, 3, 5])
def test_a_fractional_quarter_of_the_blocks_is_met_on_average(blocks_in_image):
    counts = []
    for seed in range(1500):
        blocks = views_of(seed, picture(4, 4 * blocks_in_image), only("mask", block_sides=(4,)))
        counts.append(sum(block.degraded_in == "both" for block in blocks.blocks))
    assert set(counts) == {blocks_in_image // 4, blocks_in_image // 4 + 1}
    assert abs(np.mean(counts) - blocks_in_image / 4) < 4 * np.std(counts) / np.sqrt(1500)


def test_the_share_hit_in_both_views_is_a_setting():
    for share in (0.0, 0.5, 1.0):
        blocks = views_of(
            0, picture(), only("mask", block_sides=(32,), overlap_fraction=share)
        ).blocks
        assert sum(block.degraded_in == "both" for block in blocks) == share * len(blocks)


def test_every_place_is_hit_in_every_way_by_a_fair_coin():
    image = picture(64, 64)
    config = only("box_blur", block_sides=(16,))
    hits = np.array(
        [[b.degraded_in for b in views_of(seed, image, config).blocks] for seed in range(800)]
    )
    for hit, share in {"a": 0.375, "b": 0.375, "both": 0.25}.items():
        shares = (hits == hit).mean(axis=0)
        assert np.abs(shares - share).max() < 4.5 * np.sqrt(share * (1 - share) / 800)


def test_block_sides_are_drawn_per_image_and_edge_blocks_are_cut():
    sides = Counter()
    for seed in range(150):
        blocks = views_of(seed, picture(150, 200), only("box_blur", overlap_fraction=0)).blocks
        (side,) = {block.height for block in blocks if block.top == block.left == 0}
        sides[side] += 1
        assert {block.height for block in blocks} == {side, 150 % side}
        assert {block.width for block in blocks} == {side, 200 % side}
    assert set(sides) == {32, 64, 128}
    assert min(sides.values()) > 25


def test_the_paper_preset_draws_mask_blur_and_noise_equally_often():
    counts = Counter(
        block.degradation for seed in range(120) for block in views_of(seed, picture(96, 96)).blocks
    )
    assert set(counts) == {"mask", "blur", "noise"}
    total = sum(counts.values())
    for count in counts.values():
        assert abs(count / total - 1 / 3) < 5 * np.sqrt(2 / 9 / total)


def test_the_extended_preset_adds_the_three_exposure_degradations():
    seen = {
        block.degradation
        for seed in range(20)
        for block in views_of(seed, picture(), M3_PRESETS["extended"]).blocks
    }
    extra = {"low_light", "colour_shift", "exposure_imbalance"}
    assert seen == {"mask", "blur", "noise"} | extra


def test_weights_of_degradations_are_kept():
    config = M3Config(block_sides=(8,), degradations={"mask": 3, "box_blur": 1, "low_light": 0})
    blocks = views_of(0, picture(), config).blocks
    share = sum(block.degradation == "mask" for block in blocks) / len(blocks)
    assert abs(share - 0.75) < 4.5 * np.sqrt(0.1875 / len(blocks))
    assert {block.degradation for block in blocks} == {"mask", "box_blur"}


@pytest.mark.parametrize("degradation", ["mask", "gaussian_noise", "salt_and_pepper", "blur"])
def test_a_block_degraded_in_both_views_has_one_degradation_with_separate_draws(degradation):
    clean = picture()
    views = views_of(0, clean, only(degradation, block_sides=(64,), overlap_fraction=1))
    for block in views.blocks:
        assert block.degradation == degradation and block.degraded_in == "both"
    assert any(block.params["a"] != block.params["b"] for block in views.blocks) or (
        degradation == "mask"
    )
    assert (views.view_a != views.view_b).any()


def test_noise_of_the_two_views_is_independent():
    clean = np.full((256, 256, 3), 128, np.uint8)
    views = views_of(0, clean, only("gaussian_noise", block_sides=(128,), overlap_fraction=1))
    first, second = (view.astype(float) - 128 for view in (views.view_a, views.view_b))
    correlation = (first * second).mean() / (first.std() * second.std())
    assert abs(correlation) < 5 / np.sqrt(first.size)


def test_equal_seeds_give_equal_views_and_records():
    for preset in M3_PRESETS.values():
        first, again = views_of(9, picture(), preset), views_of(9, picture(), preset)
        np.testing.assert_array_equal(first.view_a, again.view_a)
        np.testing.assert_array_equal(first.view_b, again.view_b)
        assert first.blocks == again.blocks
        assert (first.view_a != views_of(10, picture(), preset).view_a).any()


def test_the_number_of_threads_changes_nothing():
    before = cv2.getNumThreads()
    digests = set()
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            views = views_of(3, picture(512, 512))
            digests.add(hashlib.sha256(views.view_a.tobytes() + views.view_b.tobytes()).digest())
    finally:
        cv2.setNumThreads(before)
    assert len(digests) == 1


def test_records_can_be_written_as_json():
    blocks = views_of(0, picture(), M3_PRESETS["extended"]).blocks
    records = [dict(block.params) for block in blocks]
    assert json.loads(json.dumps(records)) == records


def test_flipped_and_cropped_views_of_an_image_are_accepted():
    image = picture(100, 90)
    for layout in (image[::-1, ::-1], image[10:, 5:80], np.asfortranarray(image)):
        expected = views_of(4, np.ascontiguousarray(layout))
        np.testing.assert_array_equal(views_of(4, layout).view_a, expected.view_a)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"degradations": {"smear": 1, "mask": 1}},
            "degradation 'smear' is unknown; choose from mask",
        ),
        ({"degradations": {}}, "positive weights"),
        ({"degradations": {"mask": 0}}, "positive weights"),
        ({"degradations": {"mask": 2, "blur": -1}}, "positive weights"),
        ({"block_sides": ()}, "block_sides"),
        ({"block_sides": (32, 0)}, "block_sides"),
        ({"overlap_fraction": 1.1}, "overlap_fraction"),
        ({"overlap_fraction": -0.1}, "overlap_fraction"),
    ],
)
def test_configs_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        M3Config(**options)


def test_images_that_are_not_rgb_bytes_are_refused():
    for image in (picture().astype(np.float32), picture()[..., 0]):
        with pytest.raises(UserError, match="expected a uint8 array"):
            views_of(0, image)


def test_every_degradation_can_be_used_alone():
    for name in DEGRADATIONS:
        views = views_of(0, picture(), only(name))
        assert {block.degradation for block in views.blocks} == {name}


def darken_in_place(block: np.ndarray, rng: np.random.Generator):
    block //= 4
    return block, {}


class TestContract:
    """What a degradation, which may come from an extension, must do."""

    @pytest.mark.parametrize(
        ("degradation", "message"),
        [
            (darken_in_place, "degradation 'own' changes its input .*read-only"),
            (lambda block, rng: (cv2.blur(block, (3, 3), dst=block), {}), "changes its input"),
            (lambda block, rng: 255 - block, "'own' must return a tuple .* it returned ndarray"),
            (lambda block, rng: (block * 1.5, {}), r"it returned float64 \(32, 32, 3\) and dict"),
            (lambda block, rng: (block[:1], {}), r"it returned uint8 \(1, 32, 3\) and dict"),
            (lambda block, rng: (block, None), "and NoneType"),
        ],
    )
    def test_a_degradation_that_breaks_it_is_refused_by_name(
        self, degradation, message, monkeypatch
    ):
        monkeypatch.setitem(DEGRADATIONS._entries, "own", degradation)
        clean = picture(32, 32)
        with pytest.raises(ContractError, match=message):
            views_of(0, clean, only("own", block_sides=(32,)))
        np.testing.assert_array_equal(clean, picture(32, 32))

    def test_other_errors_of_a_degradation_are_raised_as_they_are(self, monkeypatch):
        monkeypatch.setitem(DEGRADATIONS._entries, "own", lambda block, rng: int("x"))
        with pytest.raises(ValueError, match="invalid literal"):
            views_of(0, picture(32, 32), only("own"))
