"""Classes marked by one fusion of all of them: what is fused, and what is drawn and limited."""

import dataclasses

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import overlay, overlay_all, overlay_mask
from ditfuse_jax.degrade.overlay import smooth_overlay
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import with_depth
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import CLASSES, Request, parse_requests
from ditfuse_jax.sample import FusionInput, RegionInput
from ditfuse_jax.sample.compose import compose
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.marking import make_marks

SAMPLING = SamplingConfig(requests="segment", class_map=True)
PLAIN = make_instruction(None, 2, SAMPLING).prompt
MAP, MARK_SKY = (requests_prompt(parse_requests(x), 2) for x in ("segment all", "segment sky"))
SKY, ROAD, TREE = map(CLASSES.index, ("sky", "road", "tree"))
LABELS = np.full((60, 90), ROAD, np.int32)
LABELS[:30] = SKY


def photograph(seed: int = 0, grey: bool = False, level: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.where(LABELS == SKY, 190, 90)[..., None] + rng.normal([10, 0, -10], 4, (60, 90, 3))
    image = image if not grey else image[..., :1].repeat(3, -1)
    return np.clip(image * level, 0, 255).astype(np.uint8)


class Model:
    """Gives the mean of the sources; marks all classes if it is asked to.  Notes what it gets."""

    unsure = np.zeros((60, 90), bool)  # where the map shows trees

    def __init__(self):
        self.seen = []

    def __call__(self, inputs):
        for number, item in inputs:
            self.seen.append(item)
            sources = [with_depth(source, 8) for source in item.sources]
            image = np.mean(sources, axis=0).astype(np.uint8)
            if item.prompt == MAP:
                labels = np.where(self.unsure, TREE, LABELS)
                size = image.shape[1::-1]
                labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
                image = overlay_all(image, labels)
            elif item.prompt == MARK_SKY:
                image = overlay(image, LABELS == SKY)
            yield {number: with_depth(image, item.output_depth)}


def run(*items, **settings):
    model, done = Model(), {}
    marks = make_marks(SAMPLING.override(settings))
    for part in compose(model, enumerate(items), marks):
        done |= part
    return [done[number] for number in range(len(items))], model


def asked(task: str, sources, **more) -> FusionInput:
    return make_instruction(None, 2, SAMPLING, task, **more).fusion_input(sources)


def requested(text: str, sources) -> FusionInput:
    return asked("fuse", sources, adjustments=parse_requests(text))


PHOTOGRAPHS = photograph(), photograph(1)


@pytest.mark.parametrize("make", [asked, requested])
def test_a_class_is_drawn_over_the_plain_fusion(make):
    item = make("segment:road" if make is asked else "segment road", PHOTOGRAPHS)
    (image, plain), model = run(item, asked("fuse", PHOTOGRAPHS))
    assert [one.prompt for one in model.seen] == [PLAIN, MAP]
    where = overlay_mask(image, plain)
    np.testing.assert_array_equal(image[~where], plain[~where])
    assert np.mean(where == (LABELS == ROAD)) > 0.99
    inner = LABELS == ROAD
    inner[:34] = False
    np.testing.assert_array_equal(image[inner], overlay(plain, inner)[inner])


def test_all_classes_of_a_scene_need_one_fusion_more_than_the_plain_one():
    items = [asked(f"segment:{name}", PHOTOGRAPHS) for name in ("road", "sky", "cars")]
    items.append(asked("segment", PHOTOGRAPHS))
    images, model = run(*items)
    assert len(model.seen) == 2
    plain = np.mean(PHOTOGRAPHS, axis=0).astype(np.uint8)
    np.testing.assert_array_equal(images[2], plain)  # no car
    colours = np.abs(images[3].astype(int) - overlay_all(plain, LABELS)).max(-1)
    assert (colours <= 1).mean() > 0.95


def test_regions_and_overlays_show_the_same_mask():
    (drawn, darker, region, plain), _ = run(
        asked("segment:sky", PHOTOGRAPHS),
        requested("sky: brightness -2", PHOTOGRAPHS),
        RegionInput(
            PHOTOGRAPHS,
            PLAIN,
            applied=parse_requests("brightness -2"),
            plain=PLAIN,
            mark=Request("segment", classes=("sky",)),
            feather=0,
        ),
        asked("fuse", PHOTOGRAPHS),
    )
    where = overlay_mask(drawn, plain)
    np.testing.assert_array_equal((region != plain).any(-1), where)
    change = np.abs(darker.astype(int) - plain).mean(-1)
    assert change[where].mean() > 20 and change[40:].max() == 0


def test_plain_fusions_are_what_they_are_without_the_map():
    items = [asked("fuse", PHOTOGRAPHS), requested("brightness +1; saturation -1", PHOTOGRAPHS)]
    with_map, model = run(*items, class_overlays="sky")
    without, other = run(*items, class_map=False)
    assert [one.prompt for one in model.seen] == [one.prompt for one in other.seen] == [PLAIN]
    for one, another in zip(with_map, without, strict=True):
        np.testing.assert_array_equal(one, another)


def test_a_pair_with_infrared_is_marked_in_its_photograph_without_a_further_fusion():
    colour, infrared = photograph(), photograph(1, grey=True)
    (image,), model = run(asked("segment:road", [infrared, colour]))
    plain, marked = model.seen
    assert plain.sources[0] is infrared and plain.sources[1] is colour
    assert all(source is colour for source in marked.sources)
    where = overlay_mask(image, np.mean([infrared, colour], axis=0).astype(np.uint8))
    assert np.mean(where == (LABELS == ROAD)) > 0.99


def test_the_models_own_overlay_is_moved_alike_with_sources_of_either_depth():
    """Where the classes are not known, the overlay is that of photographs, of 8 bits."""
    colour, infrared = photograph(), photograph(1, grey=True)
    deep = infrared.astype(np.uint16) * 257
    own = [
        dataclasses.replace(asked("segment:road", [colour, other]), segment=None, depth=8)
        for other in (infrared, deep)
    ]
    (image, mixed), _ = run(*own)
    (sixteen,), _ = run(dataclasses.replace(own[1], depth=16))
    assert np.abs(mixed.astype(int) - image).max() <= 1
    assert sixteen.dtype == np.uint16
    assert np.abs(sixteen / 257 - image).max() <= 2


def test_a_night_scene_is_marked_in_its_brightened_photograph():
    colour, infrared = photograph(level=0.2), photograph(1, grey=True)
    items = [asked(f"segment:{name}", [colour, infrared]) for name in ("road", "sky")]
    (image, _), model = run(*items)
    assert [one.prompt for one in model.seen] == [PLAIN, MAP]
    assert model.seen[1].sources[0].mean() > 2 * colour.mean()
    where = overlay_mask(image, np.mean([colour, infrared], axis=0).astype(np.uint8))
    assert np.mean(where == (LABELS == ROAD)) > 0.99
    _, model = run(asked("segment:road", PHOTOGRAPHS))  # by day nothing is changed
    assert all(a is b for a, b in zip(model.seen[1].sources, PHOTOGRAPHS, strict=True))


def test_larger_images_are_also_marked_at_a_smaller_size():
    items = [asked(f"segment:{name}", PHOTOGRAPHS) for name in ("road", "sky")]
    images, model = run(*items, class_map_side=40)
    assert [one.prompt for one in model.seen] == [PLAIN, MAP, MAP]
    assert [one.sources[0].shape for one in model.seen[1:]] == [(60, 90, 3), (40, 60, 3)]
    plain = np.mean(PHOTOGRAPHS, axis=0).astype(np.uint8)
    for image, number in zip(images, (ROAD, SKY), strict=True):
        assert np.mean(overlay_mask(image, plain) == (number == LABELS)) > 0.98
    _, model = run(*items, class_map_side=60)
    assert len(model.seen) == 2  # not larger


def test_a_class_that_is_also_marked_alone_counts_both(monkeypatch):
    """The map takes the sky for trees by a little more than half."""
    monkeypatch.setattr(Model, "unsure", (LABELS == SKY) & (np.arange(60)[:, None] < 20))
    items = [asked(f"segment:{name}", PHOTOGRAPHS) for name in ("sky", "tree", "road")]
    plain = np.mean(PHOTOGRAPHS, axis=0).astype(np.uint8)
    by_map, _ = run(*items)
    shown = [overlay_mask(image, plain) for image in by_map]
    assert shown[0][:15].mean() < 0.05 and shown[1][:15].mean() > 0.95
    both, model = run(*items, class_overlays="sky")
    assert [one.prompt for one in model.seen] == [PLAIN, MAP, MARK_SKY]
    shown = [overlay_mask(image, plain) for image in both]
    assert np.mean((shown[0] | shown[1]) == (LABELS == SKY)) > 0.98
    assert not (shown[0] & shown[1]).any()
    assert np.mean(shown[2] == (LABELS == ROAD)) > 0.99


def test_a_sentence_of_the_users_own_is_marked_as_the_model_does():
    item = make_instruction("Where is it?", 2, SAMPLING, "segment:road").fusion_input(PHOTOGRAPHS)
    assert item.segment is None
    (image,), model = run(item)
    assert len(model.seen) == 1 and "Where is it?" in model.seen[0].prompt
    np.testing.assert_array_equal(image, np.mean(PHOTOGRAPHS, axis=0).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("numbers", [[ROAD], [SKY, ROAD]])
def test_a_smooth_overlay_covers_exactly_its_classes(dtype, numbers):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 11, (60, 90))
    labels[20:40, 20:60] = ROAD
    image = photograph().astype(dtype) * (257 if dtype == np.uint16 else 1)
    drawn = smooth_overlay(image, labels, numbers)
    assert drawn.dtype == dtype
    where = np.isin(labels, numbers)
    np.testing.assert_array_equal((drawn != image).any(-1), where)
    if len(numbers) == 1 and dtype == np.uint8:
        np.testing.assert_array_equal(overlay_mask(drawn, image), where)
        inside = np.s_[22:38, 22:58]
        np.testing.assert_array_equal(drawn[inside], overlay(image, where)[inside])
