"""One warp over many pairs, saved and read."""

import numpy as np
import pytest

from ditfuse_jax.align import (
    Alignment,
    AlignmentError,
    Calibration,
    Warp,
    align_stack,
    calibrate,
    read_calibration,
    write_calibration,
)
from ditfuse_jax.align.geometry import corner_distance, similarity_about, translation
from ditfuse_jax.errors import UserError

SIZE = (200, 300)
TRUTH = similarity_about((150, 100), 1.05, 2, (9, -4))


def alignment(matrix, confidence=0.9, model="similarity"):
    return Alignment(Warp(model, matrix, SIZE, SIZE), 0.3, confidence, 0.9, "their edges")


def near_truth(count):
    random = np.random.default_rng(0)
    return [alignment(TRUTH @ translation(*random.normal(0, 0.3, 2))) for _ in range(count)]


def test_wrong_pairs_do_not_move_the_calibration():
    wrong = [alignment(translation(20 * n, -15)) for n in range(1, 4)]
    warp, spread = calibrate([*near_truth(9), *wrong])
    assert corner_distance(warp.matrix, TRUTH, *SIZE) < 0.5
    assert spread < 1


def test_pairs_that_are_not_sure_do_not_count():
    unsure = [alignment(translation(30, 30), confidence=0.01)] * 20
    warp, _ = calibrate([*near_truth(3), *unsure])
    assert corner_distance(warp.matrix, TRUTH, *SIZE) < 0.5


def test_the_calibration_has_the_model_of_most_pairs():
    shifts = [alignment(translation(3, 4), model="translation")] * 3
    warp, _ = calibrate([*shifts, alignment(translation(3, 4), model="affine")])
    assert warp.model == "translation"
    np.testing.assert_allclose(warp.matrix, translation(3, 4), atol=1e-9)


def test_a_homography_is_calibrated_exactly():
    matrix = np.array([[1.02, 0.01, 4], [0.02, 0.99, -3], [1e-4, -5e-5, 1]])
    warp, spread = calibrate([alignment(matrix, model="homography")] * 3)
    np.testing.assert_allclose(warp.matrix, matrix, atol=1e-4)
    assert spread < 0.01


def test_cameras_that_moved_are_refused():
    moving = [alignment(translation(15 * n, 0)) for n in range(8)]
    with pytest.raises(AlignmentError, match="agree on one warp: the cameras moved"):
        calibrate(moving)


def test_a_folder_without_a_sure_pair_is_refused():
    with pytest.raises(AlignmentError, match="none of 2 pairs could be aligned"):
        calibrate([alignment(TRUTH, 0.0)] * 2)


def test_pairs_of_different_sizes_are_refused():
    other = Alignment(Warp("similarity", TRUTH, (100, 100), SIZE), 0.1, 0.9, 0.9, "")
    with pytest.raises(UserError, match="pairs of one size"):
        calibrate([alignment(TRUTH), other])


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    warp, spread = calibrate(near_truth(5))
    written = Calibration((warp,), 5, spread)
    write_calibration(tmp_path / "rig.json", written)
    read = read_calibration(tmp_path / "rig.json")
    np.testing.assert_array_equal(read.warps[0].matrix, warp.matrix)
    assert (read.pairs, read.spread, read.warps[0].model) == (5, spread, "similarity")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "ditfuse_jax alignment 1", "warps": []}', "\x80"]
)
def test_another_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "rig.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"rig\.json is not a calibration: write one with"):
        read_calibration(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"rig\.json: cannot be read"):
        read_calibration(tmp_path / "rig.json")


def test_images_that_do_not_fit_the_calibration_are_refused():
    calibration = Calibration((Warp("similarity", TRUTH, SIZE, SIZE),), 1, 0.0)
    image = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(UserError, match=r"b\.png is 50x50, but the calibration was made from 300"):
        align_stack([image, image[:50, :50]], ["a.png", "b.png"], calibration=calibration)
    with pytest.raises(UserError, match="for 2 images, not 3"):
        align_stack([image] * 3, ["a", "b", "c"], calibration=calibration)


def test_a_warp_that_leaves_too_little_is_refused():
    calibration = Calibration((Warp("translation", translation(270, 0), SIZE, SIZE),), 1, 0.0)
    image = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(AlignmentError, match="only 10% of it would be left"):
        align_stack([image, image], ["a.png", "b.png"], calibration=calibration)
