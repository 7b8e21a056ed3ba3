"""`ditfuse fuse --align`: two cameras that are not registered."""

import json

import cv2
import numpy as np
import pytest

from ditfuse_jax.align.geometry import corner_distance, similarity_about, translation
from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, read_metadata, write_image
from tests.align.scenes import labels, render, two_views

pytestmark = pytest.mark.medium

WARP = similarity_about((169.5, 129.5), 1.04, 1.5, (9, -6))
SIZE = (200, 280)


@pytest.fixture
def cameras(tmp_path):
    """A folder of two pairs with one warp."""
    folder = tmp_path / "in"
    for number in range(2):
        for side, image in zip(("image1", "image2"), two_views(10 * number, WARP), strict=False):
            (folder / side).mkdir(parents=True, exist_ok=True)
            write_image(folder / side / f"{number}.png", image)
    return folder


@pytest.fixture
def fuse(checkpoint, tmp_path, capsys):
    """Runs the command on the way to `out`; returns its exit code, output and errors."""

    def run(*words):
        capsys.readouterr()
        command = ["fuse", *map(str, words), "--checkpoint", str(checkpoint)]
        code = main([*command, "-o", str(tmp_path / "out")])
        return code, *capsys.readouterr()

    return run


def replace_with_unrelated(cameras, number):
    write_image(cameras / "image2" / f"{number}.png", render(labels(900), 1)[30:-30, 30:-30])


def test_each_pair_is_aligned_and_its_png_holds_the_warp(cameras, fuse, tmp_path):
    code, out, _ = fuse(cameras, "--align")
    assert code == 0
    _, _, truth = two_views(0, WARP)
    for number in range(2):
        path = tmp_path / "out" / f"{number}.png"
        stored = json.loads(read_metadata(path)["alignment"])
        matrix = np.array(stored["warps"][0]["matrix"])
        assert corner_distance(matrix, truth, *SIZE) < 1
        assert read_image(path).shape[1::-1] == tuple(stored["cut"][2:])
        assert f"{number}.png: similarity, " in out
        assert "confidence" in out


def test_a_pair_that_does_not_belong_together_is_listed_and_the_others_are_fused(
    cameras, fuse, tmp_path
):
    replace_with_unrelated(cameras, 0)
    code, _, error = fuse(cameras, "--align", "similarity")
    assert code == 2
    assert "1 of 2 could not be fused" in error
    assert "image2/0.png could not be aligned" in error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["1.png"]


def test_an_unrelated_pair_alone_is_refused_in_one_line_and_nothing_is_written(
    cameras, refused, checkpoint, tmp_path
):
    replace_with_unrelated(cameras, 0)
    pair = [cameras / side / "0.png" for side in ("image1", "image2")]
    output = tmp_path / "out" / "fused.png"
    message = refused("fuse", *pair, "--align", "-o", output, "--checkpoint", checkpoint)
    assert "could not be aligned" in message
    assert not output.parent.exists()


def test_a_saved_calibration_serves_all_pairs_even_one_that_alone_is_refused(
    cameras, fuse, tmp_path
):
    replace_with_unrelated(cameras, 1)
    rig = tmp_path / "rig.json"
    code, out, _ = fuse(cameras, "--align-save", rig)
    assert code == 0
    assert "from 1 pairs" in out
    first = [read_image(tmp_path / "out" / f"{n}.png") for n in range(2)]
    assert len({image.shape for image in first}) == 1
    assert fuse(cameras, "--align", rig)[0] == 0
    for number in range(2):
        again = read_image(tmp_path / "out" / f"{number}.png")
        np.testing.assert_array_equal(again, first[number])


def test_settings_that_contradict_each_other_are_refused(cameras, refused, checkpoint, tmp_path):
    command = ["fuse", cameras, "-o", tmp_path / "out", "--checkpoint", checkpoint]
    assert "exclude each other" in refused(*command, "--align", "--resize")
    message = refused(*command, "--align", "rig.json", "--align-save", tmp_path / "x.json")
    assert "names a calibration, so there is none to save" in message
    assert "rig.json: cannot be read" in refused(*command, "--align", "rig.json")
    assert not (tmp_path / "out").exists()


def test_cameras_of_different_size_need_no_resize(cameras, fuse, tmp_path):
    path = cameras / "image2" / "0.png"
    write_image(path, cv2.resize(read_image(path), (SIZE[1] // 2, SIZE[0] // 2)))
    code, _, _ = fuse(cameras, "--align", "similarity")
    assert code == 0
    assert read_image(tmp_path / "out" / "0.png").shape[1] > 0.8 * SIZE[1]


def test_residual_shifts_are_undone_and_no_pair_is_cut_or_refused(fuse, tmp_path):
    pairs = [
        two_views(0, translation(3, -2))[:2],
        (render(labels(100), 1)[30:-30, 30:-30], render(labels(200), 2)[30:-30, 30:-30]),
    ]
    for number, pair in enumerate(pairs):
        for side, image in zip(("image1", "image2"), pair, strict=True):
            (tmp_path / "in" / side).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "in" / side / f"{number}.png", image)
    code, out, _ = fuse(tmp_path / "in", "--align", "residual")
    assert code == 0
    assert "0.png: a shift of (" in out and "px undone (confidence 1.00)" in out
    assert "1.png: left as it is: their blocks do not agree on one small shift" in out
    shifts = []
    for number in range(2):
        path = tmp_path / "out" / f"{number}.png"
        assert read_image(path).shape[:2] == SIZE
        stored = json.loads(read_metadata(path)["alignment"])
        shifts.append(np.array(stored["warps"][0]["matrix"])[:2, 2])
    np.testing.assert_allclose(shifts, [(3, -2), (0, 0)], atol=0.15)
