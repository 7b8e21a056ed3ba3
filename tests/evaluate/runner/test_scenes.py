"""Scenes of photographs and stacks."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.scenes import Folders, open_scenes, read_scenes, scene_stems
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.sources import SOURCES


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


def test_photographs_of_equal_names_are_all_scenes_and_no_number_is_given_twice(make, tmp_path):
    make("photos/x.jpg", "photos/x.png", "photos/x-2.png", size=(280, 265))
    data = str(tmp_path / "photos")
    scenes = list(read_scenes(data, 5))
    assert [scene.stem for scene in scenes] == ["x-2", "x", "x-3", "x-2-2", "x-4"]
    assert [scene.stem for scene in scenes] == scene_stems(data, 5)
    for scene, name in zip(scenes, ("x-2.png", "x.jpg", "x.png", "x-2.png", "x.jpg"), strict=True):
        np.testing.assert_array_equal(scene.clean, read_image(tmp_path / "photos" / name))


@pytest.mark.parametrize("labels", ["a role", "a folder"])
def test_labels_are_not_fused_as_if_they_were_a_source(make, tmp_path, labels):
    make("images/x.png", "msrs/test/vi/x.png", "msrs/test/ir/x.png")
    for folder in ("labels", "msrs/test/Segmentation_labels"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), np.zeros((40, 36), np.uint8))
    names = {
        "a role": f"dataset:msrs:test:partial:visible,label@{tmp_path / 'msrs'}",
        "a folder": f"labelled:{tmp_path}",
    }
    for use in (open_scenes, scene_stems):
        with pytest.raises(UserError, match=r"has labels, .*: give --segmentation or --regions"):
            use(names[labels])


def test_the_target_of_a_prompt_is_not_fused_as_if_it_were_a_source(make, tmp_path):
    make("a.png", "b.png", "target.png")
    record = {
        "task_type": "image_edit",
        "instruction": "Fuse <img><|image_1|></img> <img><|image_2|></img>",
        "input_images": ["a.png", "b.png"],
        "output_image": "target.png",
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=r"train\.jsonl has prompts with targets"):
        open_scenes(f"records:{tmp_path / 'train.jsonl'}")


def test_a_list_of_files_is_opened_by_its_absolute_path(make, tmp_path):
    make("vi/x.png", "ir/x.png", size=(20, 30))
    (tmp_path / "list.csv").write_text("vi/x.png,ir/x.png\n")
    (scene,) = read_scenes(f"manifest:{tmp_path / 'list.csv'}")
    for source, folder in zip(scene.sources, ("vi", "ir"), strict=True):
        np.testing.assert_array_equal(source, read_image(tmp_path / folder / "x.png"))


class TestRange:
    """The samples that become black and white are the same in all files of a source."""

    @pytest.fixture
    def photographs(self, tmp_path):
        """Two 16-bit photographs, of which one is dark."""
        (tmp_path / "photos").mkdir()
        ramp = np.linspace(0, 1, 280 * 265).reshape(280, 265, 1)
        for stem, white in (("bright", 40000), ("dark", 800)):
            colour = np.uint16(np.round(white * np.repeat(ramp, 3, axis=2)))
            cv2.imwrite(str(tmp_path / "photos" / f"{stem}.png"), colour)
        return str(tmp_path / "photos")

    def test_photographs_share_the_range_that_the_brightest_needs(self, photographs):
        bright, dark = read_scenes(photographs)
        assert bright.clean is not None and dark.clean is not None
        assert bright.clean.max() == pytest.approx(40000 * 255 / 65535, abs=1)
        assert dark.clean.max() == pytest.approx(800 * 255 / 65535, abs=1)

    def test_a_given_range_is_that_of_photographs(self, photographs):
        opened = open_scenes(photographs, value_range=["0,800"])
        clean = opened.readers["dark"]().clean
        assert clean is not None and clean.max() == 255

    @pytest.mark.processes
    @pytest.mark.medium
    @pytest.mark.parametrize("layout", ["photographs", "stacks"])
    def test_a_given_range_is_that_of_files_in_a_bucket(self, photographs, gcs, layout):
        bucket = as_path(gcs.bucket())
        folders = {"photographs": [""], "stacks": ["image1", "image2", "clean"]}[layout]
        for folder in folders:
            for file in Path(photographs).iterdir():
                (bucket / folder / file.name).write_bytes(file.read_bytes())
        scene = open_scenes(str(bucket), value_range="0,800").readers["dark"]()
        if layout == "photographs":
            assert scene.clean is not None and scene.clean.max() == 255
        else:
            assert [source.max() for source in scene.sources] == [255, 255]
            assert scene.clean is not None

    def test_a_range_that_means_nothing_is_refused_for_photographs_too(self, photographs):
        with pytest.raises(UserError, match="range 'nonsense' is neither LOW,HIGH nor"):
            open_scenes(photographs, value_range=["nonsense"])


class TestDeepStacks:
    """16-bit sources with a clean image, named as folders or in a folder of numbered ones."""

    @pytest.fixture(params=["folders", "numbered"])
    def opened(self, request, tmp_path):
        """Opens two scenes of different brightness, whose clean images are the first source's."""
        for folder in ("image1", "image2", "clean"):
            (tmp_path / folder).mkdir()
            for stem, (low, high) in {"x": (29000, 30000), "y": (30000, 31500)}.items():
                image = np.tile(np.linspace(low, high, 64), (64, 1)).astype(np.uint16)
                image = image[:, ::-1] if folder == "image2" else image
                cv2.imwrite(str(tmp_path / folder / f"{stem}.png"), image)
        folders = Folders((tmp_path / "image1", tmp_path / "image2"), tmp_path / "clean")
        data = folders if request.param == "folders" else str(tmp_path)
        return lambda *count, **options: open_scenes(data, *count, **options).readers

    @pytest.mark.parametrize("value_range", ["auto", "29000,31500", "full"])
    def test_a_clean_image_equal_to_the_first_source_is_equal_when_read(self, opened, value_range):
        for read in opened(value_range=value_range).values():
            np.testing.assert_array_equal(read().clean, read().sources[0])

    def test_a_count_does_not_change_the_pixels_of_a_scene(self, opened):
        assert opened(1).keys() == {"x"}
        assert opened(1)["x"]().digest == opened()["x"]().digest

    def test_beside_a_source_of_8_bits_a_deep_clean_image_has_a_range_of_its_own(
        self, opened, tmp_path
    ):
        write_image(tmp_path / "image1" / "x.png", np.zeros((64, 64, 3), np.uint8))
        write_image(tmp_path / "image1" / "y.png", np.zeros((64, 64, 3), np.uint8))
        clean = opened()["x"]().clean
        assert (clean.min(), clean.max()) == (0, 255)


def test_folders_may_be_given_as_text(make, tmp_path):
    make("a/x.png", "b/x.png")
    places: Any = (str(tmp_path / "a"), str(tmp_path / "b"))
    folders = Folders(places, places[0])
    assert folders == Folders((tmp_path / "a", tmp_path / "b"), tmp_path / "a")
    assert list(open_scenes(folders).readers) == ["x"]


class TestOtherSources:
    """Sources that are not read from files, such as packed data."""

    @pytest.fixture
    def name(self, monkeypatch):
        class Noise:
            names = ("x", "x")
            num_images = 2

            def __len__(self):
                return 2

            def __getitem__(self, index):
                return (np.full((20, 20, 3), index, np.uint8),) * 2

        monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES) | {"noise": lambda _: Noise()})
        return "noise:"

    def test_items_of_equal_names_are_all_scenes(self, name):
        scenes = list(read_scenes(name))
        assert [(scene.stem, scene.sources[0].max()) for scene in scenes] == [("x", 0), ("x-2", 1)]

    @pytest.mark.parametrize(
        ("options", "option"),
        [({"value_range": ["0,800"]}, "--range"), ({"align": "auto"}, "--align")],
        ids=["range", "align"],
    )
    def test_options_that_need_files_are_refused_by_name(self, name, options, option):
        with pytest.raises(UserError, match=f"is not read from image files: leave {option} out"):
            open_scenes(name, **options)


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
        assert scene.clean is not None
        assert visible.shape == infrared.shape == scene.clean.shape
        assert visible.shape[1] <= 270 - self.SHIFT + 1
        np.testing.assert_array_equal(scene.clean, visible)
        assert np.abs(255 - infrared.astype(int) - visible).mean() < 3

    def test_so_are_stacks_of_different_sizes_in_numbered_folders(self, folders, tmp_path):
        (tmp_path / "stacks").mkdir()
        for number, folder in enumerate(folders.sources, start=1):
            folder.rename(tmp_path / "stacks" / f"image{number}")
        infrared = read_image(tmp_path / "stacks" / "image2" / "x.png")
        write_image(tmp_path / "stacks" / "image2" / "x.png", infrared[:-4, :-6])
        scene = open_scenes(str(tmp_path / "stacks"), align="translation").readers["x"]()
        assert scene.sources[0].shape == scene.sources[1].shape

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
