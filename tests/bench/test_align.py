"""The trials of the alignment benchmark: true warps, cuts without empty pixels, counts."""

import numpy as np
import pytest

from ditfuse_jax.align import Alignment, Warp, resample
from ditfuse_jax.align.geometry import corners, transform
from ditfuse_jax.bench.align import Trial, find_pairs, move, random_warp, summary
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from tests.align.scenes import labels, render


@pytest.mark.parametrize("seed", range(4))
def test_the_true_warp_brings_the_moved_image_back(seed):
    image = render(labels(seed), 1)
    height, width = image.shape[:2]
    warp = random_warp(height, width, np.random.default_rng(seed))
    cut, moved, truth, _ = move(image, image, warp)
    back, mask = resample(moved, Warp("similarity", truth, cut.shape[:2], moved.shape[:2]))
    inner = np.zeros_like(mask)
    inner[6:-6, 6:-6] = True
    inner &= mask
    assert inner.mean() > 0.6
    error = np.abs(back.astype(int) - cut)[inner].mean()
    assert error < 3  # noise alone; shifted by a pixel it is twice that
    wrong = truth.copy()
    wrong[0, 2] += 1
    back, _ = resample(moved, Warp("similarity", wrong, cut.shape[:2], moved.shape[:2]))
    assert np.abs(back.astype(int) - cut)[inner].mean() > 1.2 * error


def test_a_homography_moves_corners_by_up_to_a_share_of_each_side():
    points = corners(150, 200)
    for seed in range(3):
        plain, bent = (
            random_warp(150, 200, np.random.default_rng(seed), share) for share in (0, 0.03)
        )
        moved = np.abs(transform(np.linalg.inv(plain) @ bent, points) - points)
        assert moved.max() > 1 and (moved <= (6.001, 4.501)).all()
        np.testing.assert_array_equal(plain[2], (0, 0, 1))


def test_a_moved_image_has_no_empty_pixels():
    image = np.full((150, 200, 3), 200, np.uint8)
    warp = random_warp(150, 200, np.random.default_rng(3))
    _, moved, _, offset = move(image, image, warp)
    placed = transform(warp @ offset, corners(*moved.shape[:2]))
    assert (placed >= 0).all()
    assert (placed <= (199, 149)).all()
    assert (moved == 200).all()


def test_all_trials_are_counted_and_wrong_ones_only_if_accepted():
    def trial(error, confidence, unrelated=None):
        warp = Warp("similarity", np.eye(3), (9, 9), (9, 9))
        alignment, other = (
            None if value is None else Alignment(warp, 0.0, value, 1.0, "")
            for value in (confidence, unrelated)
        )
        return Trial("x", alignment, error, None, other, 1.0)

    rows = summary([trial(1, 0.9, 0.0), trial(9, 0.9), trial(9, 0.0), trial(1.5, 0.0, 0.9)])
    name = "to the stored registration"
    assert rows["accepted"] == 2
    assert rows["unrelated pairs"] == 2
    assert rows["unrelated accepted"] == 1
    assert rows[f"{name}: at most 2 px"] == 2
    assert rows[f"{name}: accepted and at most 2 px"] == 1
    assert rows[f"{name}: accepted and above 5 px"] == 1
    assert not [key for key in rows if "its own" in key]


def test_pairs_have_equal_stems(tmp_path):
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.jpg", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    found = find_pairs(tmp_path / "a", tmp_path / "b")
    assert [(x.name, y.name) for x, y in found] == [("1.png", "1.jpg"), ("3.png", "3.png")]
    (tmp_path / "b" / "3.png").unlink()
    with pytest.raises(UserError, match="fewer than two images of equal names"):
        find_pairs(tmp_path / "a", tmp_path / "b")
