"""Segmentation measured on stand-in models with known masks, and refused input."""

import dataclasses
import json
import math
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ditfuse_jax.degrade import overlay
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.instruction_following import segmentation
from ditfuse_jax.evaluate.instruction_following.segmentation import (
    class_numbers,
    evaluate_segmentation,
)
from ditfuse_jax.evaluate.instruction_following.segmentation_results import Confusion, confusion
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import read_image, read_labels, write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.tasks import STREET_CLASSES

CAMVID = Path(__file__).parents[4] / "shared" / "data" / "seg" / "camvid_val"
SKY, BUILDING, ROAD, CAR, VOID = 0, 1, 3, 8, 11


def labels_of(seed):
    """Sky, building, road and void in bands; a car in the second scene only."""
    labels = np.repeat([SKY, BUILDING, ROAD, VOID], 12)[:, None].repeat(64, 1).astype(np.uint8)
    if seed:
        labels[26:34, 10:30] = CAR
    return labels


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for seed, stem in enumerate(("one", "two")):
        image = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{stem}.png", image)
        coded = labels_of(seed)[..., None].repeat(3, 2)
        write_image(folder / "labels" / f"{stem}.png", coded)
    return folder


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Evaluates a stand-in: a function of the clean scene, the labels and the requested class.

    Scenes are fused in order, so the stand-in can look up its scene.
    """

    def run(behave, data, class_map=False, **options):
        source = open_source(data)
        turn = iter(range(len(source)))

        def fuse(jobs):
            *images, coded = source[next(turn)]
            return [behave(images[0], coded[..., 0], requested_class(job.prompt)) for job in jobs]

        sampling = SamplingConfig(
            steps=1, guidance_scale=1.0, image_guidance_scale=1.0, class_map=class_map
        )
        fuser = SimpleNamespace(
            fuse=fuse, sampling=sampling, trained=SimpleNamespace(name="stand-in")
        )
        monkeypatch.setattr(
            segmentation, "open_model", lambda *_, **__: EvaluatedModel(fuser, tmp_path / "out")
        )
        return evaluate_segmentation(checkpoint=tmp_path, data=data, quiet=True, **options)

    return run


def requested_class(prompt):
    """The class number in a prompt, or None."""
    if not prompt.startswith("[SEG]"):
        return None
    words = prompt.rpartition("</img>.")[2]
    return next(i for i, (name, *_) in enumerate(STREET_CLASSES) if f" {name}." in words)


def perfect(clean, labels, wanted):
    return clean if wanted is None else overlay(clean, labels == wanted)


def test_true_masks_have_an_iou_of_1_in_every_class_that_occurs(measure, scenes):
    scores = measure(perfect, f"labelled:{scenes}")
    found = scores.summary()
    assert found["miou"] == 1
    for name in ("sky", "building", "road", "car"):
        assert found["classes"][name]["iou"] == found["classes"][name]["iou_per_image"] == 1
    assert found["classes"]["car"]["present"] == found["classes"]["car"]["absent"] == 1
    assert found["classes"]["car"]["false_positive_rate"] == 0
    assert math.isnan(found["classes"]["tree"]["iou"])  # neither present nor predicted


def test_without_tags_prompts_are_sentences_only(measure, scenes, tmp_path):
    seen = []
    measure(
        lambda clean, labels, wanted: seen.append(wanted) or clean,
        f"labelled:{scenes}",
        tags=False,
    )
    assert set(seen) == {None}  # no prompt begins with [SEG]
    assert json.loads((tmp_path / "out" / "segmentation.json").read_text())["tags"] is False


def test_empty_and_full_masks_have_known_scores(measure, scenes):
    nothing = measure(lambda clean, labels, wanted: clean, f"labelled:{scenes}").summary()
    assert nothing["miou"] == 0
    assert nothing["classes"]["tree"]["false_positive_rate"] == 0
    everything = measure(
        lambda clean, labels, wanted: overlay(clean, labels >= 0), f"labelled:{scenes}"
    ).summary()
    assert everything["miou"] == everything["miou_of_full_masks"]
    for row in everything["classes"].values():
        assert row["iou"] == row["area"]
    assert everything["classes"]["tree"]["false_positive_rate"] == 1
    assert everything["classes"]["sky"]["area"] == pytest.approx(1 / 3)  # a quarter is void


def test_void_pixels_are_not_counted(measure, scenes):
    def sloppy(clean, labels, wanted):
        return overlay(clean, (labels == wanted) | (labels == VOID))

    assert measure(sloppy, f"labelled:{scenes}").summary()["miou"] == 1


def test_only_the_named_classes_are_segmented(measure, scenes):
    found = measure(perfect, f"labelled:{scenes}", classes=["road", "sky"], count=1)
    assert list(found.summary()["classes"]) == ["road", "sky"]
    assert list(found.images) == ["one"]


def test_counts_of_images_add_up_to_those_of_the_images_side_by_side():
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 13, (20, 30)).astype(np.uint8) for _ in range(3)]
    reads = [rng.random((20, 30)) < 0.4 for _ in range(3)]
    for wanted in range(11):
        parts = [
            confusion(read, label, wanted, 11) for read, label in zip(reads, labels, strict=True)
        ]
        whole = confusion(np.hstack(reads), np.hstack(labels), wanted, 11)
        assert sum(parts, Confusion()) == whole
        valid = np.hstack(labels) < 11
        truth, read = np.hstack(labels) == wanted, np.hstack(reads) & valid
        assert whole.iou == (truth & read).sum() / (truth | read).sum()
        assert sum(dataclasses.astuple(whole)) == valid.sum()


def test_for_several_images_the_scene_is_the_models_plain_fusion(monkeypatch, measure, scenes):
    source = open_source(f"labelled:{scenes}")
    stacks = [(image, 255 - image, coded) for image, coded in (source[i] for i in range(2))]

    class Pairs:
        names, num_images, labels = source.names, 3, (2,)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return stacks[index]

    monkeypatch.setattr(segmentation, "open_source", lambda name: Pairs())

    def shifted(clean, labels, wanted):
        scene = clean // 2 + 40  # unlike any source
        return perfect(scene, labels, wanted)

    assert measure(shifted, f"labelled:{scenes}").summary()["miou"] == 1


def test_results_are_strict_json_and_masks_are_pictured(measure, scenes, tmp_path):
    measure(perfect, f"labelled:{scenes}", classes=["car", "tree"])

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "out" / "segmentation.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found["miou"] == 1
    assert found["classes"]["tree"]["iou"] is None
    assert found["images"]["one"]["car"] == {
        "iou": None,
        "present": False,
        "false_positive_rate": 0,
    }
    assert read_image(tmp_path / "out" / "segmentation.png").shape[1] > 4 * 320


def test_any_name_of_a_class_gives_its_number():
    assert class_numbers(["street", "sidewalk"]) == {"street": 3, "sidewalk": 4}
    assert list(class_numbers([])) == [words[0] for words in STREET_CLASSES]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["moon"], "class 'moon' is unknown; choose from sky"), (["road", "street"], "twice")],
)
def test_unknown_and_repeated_classes_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        class_numbers(names)


def test_a_source_without_labels_is_refused(scenes, tmp_path):
    with pytest.raises(UserError, match="has no labels: give labelled:FOLDER"):
        evaluate_segmentation(checkpoint=tmp_path, data=str(scenes / "images"))


def test_an_invalid_label_is_refused_with_its_scene(measure, scenes):
    coded = np.full((48, 64, 3), 77, np.uint8)
    write_image(scenes / "labels" / "two.png", coded)
    with pytest.raises(UserError, match="two: labels hold class 77"):
        measure(perfect, f"labelled:{scenes}")


def test_masks_of_street_scenes_are_read_back_exactly(measure):
    if not CAMVID.is_dir():
        pytest.skip("../shared/data/seg/camvid_val is absent")
    scores = measure(perfect, f"labelled:{CAMVID}", count=3)
    found = scores.summary()
    assert found["miou"] == 1
    stem = next(iter(scores.images))
    labels = read_labels(next((CAMVID / "labels").glob(f"{stem}.*")))[..., 0]
    for number, (name, *_) in enumerate(STREET_CLASSES):
        one = scores.images[stem][name]
        assert one.true_positives == (labels == number).sum()


@pytest.mark.parametrize(("views", "darker"), [("day", False), ("night", True)])
def test_photographs_become_pairs_with_infrared_by_day_and_night(
    measure, scenes, views, darker, monkeypatch
):
    seen = []

    def read(*args):
        seen.append(real(*args))
        return seen[-1]

    real = segmentation._read
    monkeypatch.setattr(segmentation, "_read", read)
    scores = measure(perfect, f"labelled:{scenes}", views=views).summary()
    assert scores["miou"] == 1 and scores["classes"]["car"]["present"] == 1
    source = open_source(f"labelled:{scenes}")
    for index, scene in enumerate(seen):
        visible, infrared = scene.sources
        assert (infrared == infrared[..., :1]).all() and scene.clean is None
        assert (visible.mean() < 0.8 * source[index][0].mean()) == darker
        assert darker or (visible == source[index][0]).all()


def test_unknown_views_are_refused(measure, scenes):
    with pytest.raises(UserError, match="views 'dusk' are unknown: choose from m3, day, night"):
        measure(perfect, f"labelled:{scenes}", views="dusk")


def test_views_are_refused_for_pairs_which_are_segmented_as_they_are(monkeypatch, tmp_path):
    pairs = types.SimpleNamespace(num_images=3, labels=(2,), names=["x"])
    monkeypatch.setattr(segmentation, "open_source", lambda _: pairs)
    with pytest.raises(UserError, match="holds pairs, which are segmented as they are"):
        segmentation.evaluate_segmentation(checkpoint=tmp_path, data="pairs", views="night")


def test_with_a_class_map_the_plain_output_is_the_scene(measure, scenes):
    """The overlay is drawn over it, so the mask is exact whatever the fusion looks like."""

    def behave(clean, labels, wanted):
        fused = 255 - clean
        return fused if wanted is None else overlay(fused, labels == wanted)

    exact = measure(behave, f"labelled:{scenes}", class_map=True).summary()
    assert exact["miou"] == 1
    assert measure(behave, f"labelled:{scenes}").summary()["miou"] < 0.9
