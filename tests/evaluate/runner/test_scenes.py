"""Scenes of photographs and stacks."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.scenes import Folders, open_scenes, read_scenes, scene_stems
from ditfuse_jax.images import read_image, write_image


def test_a_photograph_becomes_two_degraded_views_at_its_own_size(make, tmp_path):
    make("photos/x.png", size=(280, 265))  # many blocks: neither view escapes
    (scene,) = read_scenes(str(tmp_path / "photos"))
    photograph = read_image(tmp_path / "photos" / "x.png")
    np.testing.assert_array_equal(scene.clean, photograph)
    for view in scene.sources:
        assert view.shape == photograph.shape
        assert (view != photograph).any()
    assert len(scene.sources) == 2


def test_photographs_are_reused_with_other_degradations(make, tmp_path):
    make("photos/x.png", "photos/y.png", size=(280, 265))
    data = str(tmp_path / "photos")
    scenes = list(read_scenes(data, 5, seed=3))
    assert [scene.stem for scene in scenes] == scene_stems(data, 5)
    assert scene_stems(data, 5) == ["x", "y", "x-2", "y-2", "x-3"]
    np.testing.assert_array_equal(scenes[0].clean, scenes[2].clean)
    for first, second in zip(scenes[0].sources, scenes[2].sources, strict=True):
        assert (first != second).any()


def test_the_degradations_depend_on_the_seed(make, tmp_path):
    make("photos/x.png", size=(280, 265))
    first, again, other = (
        next(read_scenes(str(tmp_path / "photos"), seed=seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.sources, again.sources)
    assert (np.array(first.sources) != np.array(other.sources)).any()


@pytest.mark.parametrize("reference", ["clean", "target", None])
def test_stacks_are_not_changed(make, tmp_path, reference):
    make(*(f"image{k}/{stem}.png" for k in (1, 2, 3) for stem in ("x", "y")))
    if reference:
        make(f"{reference}/x.png", f"{reference}/y.png")
    scenes = list(read_scenes(str(tmp_path)))
    assert [scene.stem for scene in scenes] == ["x", "y"]
    for scene in scenes:
        for k, source in enumerate(scene.sources, start=1):
            expected = read_image(tmp_path / f"image{k}" / f"{scene.stem}.png")
            np.testing.assert_array_equal(source, expected)
        assert (scene.clean is not None) == (reference is not None)
    assert scene_stems(str(tmp_path), 1) == ["x"]


@pytest.mark.parametrize("count", [0, -2])
def test_a_count_below_one_is_refused(make, tmp_path, count):
    make("photos/x.png")
    with pytest.raises(UserError, match=f"count must be at least 1, not {count}"):
        scene_stems(str(tmp_path / "photos"), count)


class TestAlign:
    """The sources of a scene are brought onto the pixels of the first one before they are used."""

    SHIFT = 9

    @pytest.fixture
    def folders(self, tmp_path):
        """Two cameras whose images are 9 pixels apart, and the clean image on the first one."""
        rng = np.random.default_rng(0)
        blobs = cv2.GaussianBlur(rng.random((220, 300), np.float32), (0, 0), 4)
        scene = np.uint8(255 * (blobs - blobs.min()) / np.ptp(blobs))
        scene = np.dstack([scene] * 3)
        parts = {
            "vi": scene[10:200, 10:280],
            "ir": 255 - scene[10:200, 10 + self.SHIFT : 280 + self.SHIFT],
            "clean": scene[10:200, 10:280],
        }
        for name, image in parts.items():
            (tmp_path / name).mkdir()
            write_image(tmp_path / name / "x.png", np.ascontiguousarray(image))
        return Folders((tmp_path / "vi", tmp_path / "ir"), tmp_path / "clean")

    def test_the_aligned_sources_show_the_same_points_and_the_clean_image_too(self, folders):
        scene = open_scenes(folders, align="translation").readers["x"]()
        visible, infrared = scene.sources
        assert visible.shape == infrared.shape == scene.clean.shape
        assert visible.shape[1] <= 270 - self.SHIFT + 1
        np.testing.assert_array_equal(scene.clean, visible)
        assert np.abs(255 - infrared.astype(int) - visible).mean() < 3

    def test_a_scene_is_the_same_each_time_it_is_read(self, folders, monkeypatch):
        read = open_scenes(folders, align="auto").readers["x"]
        first = read()
        monkeypatch.setattr("ditfuse_jax.align.stack.estimate_alignment", None)  # never again
        assert read().digest == first.digest

    def test_scenes_that_cannot_be_aligned_are_refused_by_name(self, folders):
        flat = np.full((190, 270, 3), 90, np.uint8)
        write_image(folders.sources[1] / "x.png", flat)
        read = open_scenes(folders, align="auto").readers["x"]
        with pytest.raises(UserError, match=r"x\.png"):
            read()

    def test_photographs_have_nothing_to_align(self, folders):
        with pytest.raises(UserError, match="holds photographs, whose views are aligned"):
            open_scenes(str(folders.sources[0]), align="auto")
