import pickle
import re

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import TONES, M3Config, adjust_tone, overlay_mask
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import INSTRUCTION_POOLS, instructions, task_prompt
from ditfuse_jax.tasks import (
    IVIF,
    M3,
    STREET_CLASSES,
    TASKS,
    Control,
    PromptedImages,
    Records,
    Segmentation,
    make_task,
)
from ditfuse_jax.tasks.crop import random_crop
from ditfuse_jax.tasks.street_views import StreetViews

IMAGES = "This is the first image <img><|image_1|></img>, and this is the second image"


def picture(height=100, width=120, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


def labels(height=100, width=120):
    """Road below, sky above, a car in it; the rest is void."""
    coded = np.full((height, width, 3), 11, np.uint8)
    coded[: height // 3], coded[height // 2 :] = 0, 3
    coded[height // 2 : height // 2 + 30, 30:80] = 8
    return coded


def example_of(name, seed, crop=(48, 64)):
    images = [picture(seed=seed) for seed in range(TASKS[name].num_images)]
    if name.startswith(("segmentation", "scene", "streets", "requested_streets")):
        images[1] = labels()
    if name.startswith("records"):
        images = PromptedImages(images, task_prompt("FUSION", None, "Merge.", len(images) - 1))
    return TASKS[name](images, np.random.default_rng(seed), crop)


@pytest.mark.parametrize("name", TASKS)
def test_examples_have_the_crops_size_and_one_placeholder_per_source(name):
    for seed in range(10):
        example = example_of(name, seed)
        for image in (*example.sources, example.target):
            assert image.shape == (48, 64, 3) and image.dtype == np.uint8
            assert image.flags.c_contiguous
        for number in range(1, len(example.sources) + 1):
            assert example.prompt.count(f"<img><|image_{number}|></img>") == 1
        assert f"<|image_{len(example.sources) + 1}|>" not in example.prompt


@pytest.mark.parametrize("name", TASKS)
def test_equal_seeds_give_equal_examples_and_other_seeds_do_not(name):
    first, again, other = example_of(name, 1), example_of(name, 1), example_of(name, 2)
    assert first.prompt == again.prompt
    for left, right in zip(first.sources, again.sources, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(first.target, again.target)
    assert (first.target != other.target).any()


@pytest.mark.parametrize(
    ("name", "tags", "pool"),
    [
        ("m3", "[FUSION]. ", "fusion"),
        ("ivif", "[FUSION]. <MULTI-MODALITIES>. ", "ivif"),
        ("mff", "[FUSION]. <MULTI-FOCUS>. ", "mff"),
        ("mef", "[FUSION]. <MULTI-EXPOSURE>. ", "mef"),
    ],
)
def test_prompts_hold_the_tasks_tags_and_a_sentence_of_its_pool(name, tags, pool):
    prompts = [example_of(name, seed).prompt for seed in range(20)]
    assert all(prompt.startswith(tags + IMAGES) for prompt in prompts)
    assert all(prompt.endswith(tuple(instructions(pool))) for prompt in prompts)
    assert len(set(prompts)) > 5


def test_only_m3_with_wrong_light_draws_sentences_about_light():
    asked = {
        name: {example_of(name, seed).prompt.split("</img>. ")[-1] for seed in range(60)}
        for name in ("m3", "m3_extended")
    }
    assert asked["m3"].isdisjoint(instructions("restoration"))
    for pool in ("fusion", "restoration"):
        assert asked["m3_extended"] & set(instructions(pool))


@pytest.mark.parametrize("name", TASKS)
def test_no_task_draws_a_held_out_sentence(name):
    heldout = [s for group in INSTRUCTION_POOLS for s in instructions(group, heldout=True)]
    wordings = {s.replace("{class}", c) for s in heldout for names in STREET_CLASSES for c in names}
    for seed in range(30):
        prompt = example_of(name, seed).prompt
        assert not [wording for wording in wordings if wording in prompt]


def test_m3_sources_are_views_of_the_target():
    task = M3(M3Config(block_sides=(16,), degradations={"mask": 1}, overlap_fraction=0))
    for seed in range(10):
        example = task((picture(),), np.random.default_rng(seed), (48, 64))
        clean = [(source == example.target).all(axis=2) for source in example.sources]
        assert (clean[0] | clean[1]).all()  # a block is degraded in one view only
        assert not clean[0].all() or not clean[1].all()


def test_ivif_target_is_the_mean_of_the_sources():
    for seed in range(10):
        example = example_of("ivif", seed)
        mean = np.mean(example.sources, axis=0)
        assert np.abs(example.target - mean).max() <= 0.5


def test_ivif_sources_come_in_either_order():
    dark, bright = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    first_is_dark = [
        IVIF()((dark, bright), np.random.default_rng(seed), (32, 32)).sources[0].max() == 0
        for seed in range(200)
    ]
    assert 70 < sum(first_is_dark) < 130


def test_unknown_pseudo_targets_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match="pseudo-target 'median' is unknown; choose from mean"):
        IVIF(target="median")


@pytest.mark.parametrize("name", TASKS)
def test_tasks_can_be_sent_to_worker_processes(name):
    assert pickle.loads(pickle.dumps(TASKS[name])) == TASKS[name]


def test_ivif_refuses_pairs_that_are_not_registered():
    pair = (picture(100, 120), picture(120, 100))
    with pytest.raises(UserError, match="must have the same size"):
        IVIF()(pair, np.random.default_rng(0), (32, 32))


@pytest.mark.parametrize("name", ["mff", "mef"])
def test_sources_made_from_one_photograph_come_in_either_order(name):
    """Measured by what differs: sharpness in the middle, or brightness."""
    dark, bright = picture() // 2, np.full((100, 120, 3), 128, np.uint8)
    image = np.where(np.arange(120)[None, :, None] < 60, dark, bright).astype(np.uint8)
    first = [
        TASKS[name]((image,), np.random.default_rng(seed), (48, 64)).sources[0].mean()
        for seed in range(60)
    ]
    assert 15 < sum(value > np.median(first) for value in first) < 45


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("control")])
def test_control_asks_for_a_level_and_shows_it(name):
    task = TASKS[name]
    assert isinstance(task, Control)
    base = task.base
    images = [picture(seed=seed) for seed in range(base.num_images)]
    tags, with_fusion = set(), []
    for seed in range(60):
        plain = base(images, np.random.default_rng(seed), (48, 64))
        asked = TASKS[name](images, np.random.default_rng(seed), (48, 64))
        tag = asked.prompt.split("<", 1)[1].split(">", 1)[0]
        tags.add(tag)
        assert asked.prompt.startswith("[CONTROL]. ")
        np.testing.assert_array_equal(asked.target, adjust_tone(plain.target, tag))
        pool = tag.lower().replace("+", "_plus").replace("-", "_minus")
        assert asked.prompt.endswith(tuple(instructions(pool)))
        with_fusion.append(any(one in asked.prompt for one in instructions("fusion")))
        for ours, theirs in zip(asked.sources, plain.sources, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert tags == set(TONES)
    assert 0.45 < np.mean(with_fusion) < 0.85  # a third asks for the level alone


class TestSegmentation:
    """The class that the instruction names is the one that is overlaid."""

    def examples(self, coded, count=60):
        masked = M3Config(degradations={"mask": 1})
        task = Segmentation(StreetViews({"clean": 1.0, "m3": 1.0}, m3=masked))
        image = picture(96, 96)[..., :1].repeat(3, axis=2)  # grey: nothing has the overlay's colour
        return [task((image, coded), np.random.default_rng(s), (96, 96)) for s in range(count)]

    def named(self, example):
        found = [
            k
            for k, names in enumerate(STREET_CLASSES)
            if any(re.search(rf"\b{name}\b", example.prompt.split("</img>")[-1]) for name in names)
        ]
        return found

    def test_the_overlay_covers_the_named_class(self):
        coded = np.full((96, 96, 3), 3, np.uint8)
        coded[20:60, 30:70] = 8
        present = 0
        for example in self.examples(coded):
            (wanted,) = self.named(example)
            share = overlay_mask(example.target).mean()
            expected = {3: 1 - 1600 / 96**2, 8: 1600 / 96**2}.get(wanted, 0)
            assert share == pytest.approx(expected, abs=0.02)
            present += wanted in (3, 8)
        assert 45 < present < 60  # most classes are present, some absent

    def test_large_classes_are_drawn_more_often_but_much_less_than_their_areas(self):
        coded = np.full((96, 96, 3), 3, np.uint8)
        coded[:32, :32] = 8  # a ninth
        asked = [self.named(example) for example in self.examples(coded, count=200)]
        present = [wanted for (wanted,) in asked if wanted in (3, 8)]
        assert present.count(8) / len(present) == pytest.approx(1 / (1 + 8**0.25), abs=0.1)

    def test_many_crops_show_the_downscaled_full_scene_and_its_degradation(self):
        """Random blocks, downscaled to a third, are grey: no pixel is as bright any more."""
        coded = np.full((288, 288, 3), 3, np.uint8)
        masked = M3Config(degradations={"mask": 1}, overlap_fraction=1)
        task = Segmentation(StreetViews({"m3": 1.0}, m3=masked))
        grey = np.full((288, 288, 3), 128, np.uint8)
        deviations = [
            task((grey, coded), np.random.default_rng(seed), (96, 96)).sources[0].std()
            for seed in range(60)
        ]
        of_bytes = np.arange(256).std()
        afar = np.isclose(deviations, of_bytes / 3, rtol=0.1).mean()
        near = np.isclose(deviations, of_bytes, rtol=0.05).mean()
        assert 0.35 < afar < 0.75 and near > 0.1

    def test_an_absent_class_leaves_the_image_unchanged(self):
        void = np.full((96, 96, 3), 11, np.uint8)
        for example in self.examples(void, count=10):
            assert not overlay_mask(example.target).any()

    def test_crops_that_are_not_of_the_full_scene_contain_the_class(self):
        coded = np.full((400, 400, 3), 3, np.uint8)
        coded[20:60, 320:380] = 8
        task = Segmentation(StreetViews({"clean": 1.0}))
        shown = []
        for seed in range(60):
            scene = np.full((400, 400, 3), 128, np.uint8)
            example = task((scene, coded), np.random.default_rng(seed), (96, 96))
            if self.named(example) == [8]:
                shown.append(overlay_mask(example.target).any())
        assert len(shown) >= 15 and np.mean(shown) > 0.95

    def test_half_of_the_examples_have_intact_views(self):
        grey, coded = np.full((96, 96, 3), 128, np.uint8), np.full((96, 96, 3), 3, np.uint8)
        task = Segmentation()
        intact = [
            all((view == 128).all() for view in task((grey, coded), rng, (96, 96)).sources)
            for rng in map(np.random.default_rng, range(100))
        ]
        assert 0.35 < np.mean(intact) < 0.65

    def test_a_scene_map_has_a_colour_for_every_class_and_leaves_void_unchanged(self):
        coded = np.full((96, 96, 3), 11, np.uint8)
        for label in range(11):
            coded[8 * label : 8 * label + 8] = label
        grey = np.full((96, 96, 3), 128, np.uint8)
        example = TASKS["scene"]((grey, coded), np.random.default_rng(0), None)
        assert example.prompt.startswith("[SEG]. This is the first image")
        rows = example.target[4:96:8].astype(int)
        assert (rows == rows[:, :1]).all() and (rows[11] == 128).all()
        apart = np.abs(rows[:11, 0][:, None] - rows[:11, 0][None]).sum(-1)
        assert apart[~np.eye(11, dtype=bool)].min() > 50

    def test_labels_are_never_mixed_by_resizing(self):
        coded = np.zeros((300, 300, 3), np.uint8)
        coded[::2] = 10  # a mean of 0 and 10 would be the fence between them
        window = random_crop((coded, coded), np.random.default_rng(0), (64, 64), labels=(0, 1))
        assert set(np.unique(window[0])) <= {0, 10}


class TestRecords:
    """Sources, target and prompt come from the data."""

    def images(self, prompt="Put <|image_2|> below <|image_1|>."):
        flat = [np.full((60, 80, 3), value, np.uint8) for value in (10, 20)]
        return PromptedImages([*flat, picture(60, 80)], prompt)

    def test_order_and_prompt_are_kept(self):
        for seed in range(10):
            example = Records()(self.images(), np.random.default_rng(seed), (32, 48))
            assert [int(source.max()) for source in example.sources] == [10, 20]
            assert example.prompt == "Put <|image_2|> below <|image_1|>."

    def test_nothing_is_mirrored(self):
        ramp = np.repeat(np.arange(80, dtype=np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
        images = PromptedImages([ramp, ramp, ramp], "<|image_1|><|image_2|>")
        for seed in range(10):
            target = Records()(images, np.random.default_rng(seed), (32, 48)).target
            assert (np.diff(target[0, :, 0].astype(int)) > 0).all()

    def test_images_and_prompt_survive_pickling_together(self):
        images = self.images()
        again = pickle.loads(pickle.dumps(images))
        assert isinstance(again, PromptedImages) and again.prompt == images.prompt
        np.testing.assert_array_equal(np.stack(again), np.stack(images))

    def test_images_without_a_prompt_are_refused(self):
        with pytest.raises(UserError, match="give records:FILE"):
            Records()(tuple(self.images()), np.random.default_rng(0), (32, 48))


@pytest.mark.parametrize(("name", "moved"), [("m3", 1), ("ivif", None)])
def test_a_misaligned_source_is_moved_and_the_target_is_that_of_the_registered_pair(name, moved):
    still, shifted = make_task(f"{name}:misalign=0"), make_task(f"{name}:misalign=1")
    images = [picture(seed=seed) for seed in range(still.num_images)]
    for seed in range(8):
        plain, example = (
            task(images, np.random.default_rng(seed), (48, 64)) for task in (still, shifted)
        )
        np.testing.assert_array_equal(example.target, plain.target)
        if moved is not None:
            np.testing.assert_array_equal(example.sources[0], plain.sources[0])
            assert (example.sources[1] != plain.sources[1]).any()
        else:
            visible = example.roles.index("visible")
            (expected,) = (
                one
                for one, role in zip(plain.sources, plain.roles, strict=True)
                if role == "visible"
            )
            np.testing.assert_array_equal(example.sources[visible], expected)
            assert not any((example.sources[1 - visible] == one).all() for one in plain.sources)


class TestStreetViews:
    """Views of labelled scenes, as each of the fusion tasks would show them."""

    def test_an_unknown_kind_is_refused_by_name(self):
        with pytest.raises(UserError, match="kind of views 'rain' is unknown; choose from"):
            StreetViews({"rain": 1.0})

    def test_frequencies_that_are_all_zero_are_refused(self):
        with pytest.raises(UserError, match="kinds of views need positive frequencies"):
            StreetViews({"clean": 0.0})

    def test_infrared_views_name_their_roles_and_their_fusion_is_neither_of_them(self):
        scene, labels = picture(48, 64), np.full((48, 64), 9)
        names = [names[0] for names in STREET_CLASSES]
        views, roles, fused = StreetViews({"infrared": 1.0}).draw(
            scene, labels, names, np.random.default_rng(0)
        )
        assert roles == ("visible", "infrared") and (views[1] == views[1][..., :1]).all()
        assert all((fused != view).any() for view in views)

    def test_a_class_is_marked_in_the_fusion_of_a_photograph_and_its_infrared_image(self):
        """The overlay's colour lies on the class, however the views differ."""
        task = Segmentation(StreetViews({"infrared": 1.0}))
        coded = np.full((96, 96, 3), 3, np.uint8)
        coded[:48] = 0
        grey = np.full((96, 96, 3), 128, np.uint8)
        shares = [
            overlay_mask(task((grey, coded), np.random.default_rng(s), (96, 96)).target).mean()
            for s in range(30)
        ]
        assert np.mean(np.isclose(shares, 0.5, atol=0.02)) > 0.6
