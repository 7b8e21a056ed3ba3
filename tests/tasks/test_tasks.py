import pickle

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import M3Config
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import instructions
from ditfuse_jax.tasks import IVIF, M3, TASKS

IMAGES = "This is the first image <img><|image_1|></img>, and this is the second image"


def picture(height=100, width=120, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


def example_of(name, seed, crop=(48, 64)):
    images = [picture(seed=seed) for seed in range(TASKS[name].num_images)]
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
    [("m3", "[FUSION]. ", "fusion"), ("ivif", "[FUSION]. <MULTI-MODALITIES>. ", "ivif")],
)
def test_prompts_hold_the_tasks_tags_and_a_sentence_of_its_pool(name, tags, pool):
    prompts = [example_of(name, seed).prompt for seed in range(20)]
    assert all(prompt.startswith(tags + IMAGES) for prompt in prompts)
    assert all(prompt.endswith(tuple(instructions(pool))) for prompt in prompts)
    assert len(set(prompts)) > 5


def test_m3_sources_are_views_of_the_target():
    task = M3(M3Config(block_sides=(16,), operations={"mask": 1}, both_share=0))
    for seed in range(10):
        example = task((picture(),), np.random.default_rng(seed), (48, 64))
        clean = [(source == example.target).all(axis=2) for source in example.sources]
        assert (clean[0] | clean[1]).all()  # where one view is hit the other is not
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
    with pytest.raises(UserError, match=r"named median \(known: mean"):
        IVIF(target="median")


@pytest.mark.parametrize("name", TASKS)
def test_tasks_can_be_sent_to_worker_processes(name):
    assert pickle.loads(pickle.dumps(TASKS[name])) == TASKS[name]


def test_ivif_refuses_pairs_that_are_not_registered():
    pair = (picture(100, 120), picture(120, 100))
    with pytest.raises(UserError, match="must have the same size"):
        IVIF()(pair, np.random.default_rng(0), (32, 32))
