"""The fuser around the sampler: sizes, slots, guidance branches, batches, checks.

The sampler is replaced by one that records its arguments and returns the image of the first slot.
"""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import with_depth
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.prompts import (
    TextSlots,
    encode_prompt,
    image_only_prompt,
    load_tokenizer,
    task_prompt,
)
from ditfuse_jax.sample import FusionInput, StackFuser, TrainedModel, WeightedAdapter
from ditfuse_jax.sample.stack_fuser import with_size_warning
from ditfuse_jax.train import load_recipe, resolve

PROMPT = task_prompt("FUSION", None, "Join them.")


class Echo:
    """A sampler that returns the first source; `calls` holds its arguments."""

    def __init__(self):
        self.calls = []

    def __call__(self, parameters, branches, noise, weights):
        self.calls.append((branches, np.asarray(noise), np.asarray(weights)))
        return branches.images[0][:, 0]


@pytest.fixture
def echo(monkeypatch):
    sampler = Echo()
    monkeypatch.setattr("ditfuse_jax.sample.stack_fuser.make_sampler", lambda *_: sampler)
    return sampler


@pytest.fixture(scope="module")
def trained():
    overrides = ["--config.model.max_images=3", "--config.sample.max_side=96"]
    recipe = resolve(load_recipe("nano_m3", overrides))
    return TrainedModel(
        None, None, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "nano"
    )


@pytest.fixture
def fuser(echo, trained):
    return lambda **changes: StackFuser(trained, trained.sampling.override(changes))


def stack(height, width, count=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (64, 32), (95, 2)])
def test_an_image_below_the_largest_side_is_not_resampled(fuser, size):
    sources = stack(*size)
    np.testing.assert_array_equal(fuser().fuse([FusionInput(sources, PROMPT)])[0], sources[0])


def deep_stack(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 65536, (height, width, 3), dtype=np.uint16) for _ in range(2)]


def test_sixteen_bits_pass_through_a_copying_model_unchanged(fuser):
    sources = deep_stack(37, 53)
    (fused,) = fuser(limit_chroma=True).fuse([FusionInput(sources, PROMPT)])
    np.testing.assert_array_equal(fused, sources[0])


@pytest.mark.parametrize("depth, dtype", [(None, np.uint16), (8, np.uint8), (16, np.uint16)])
def test_one_deep_source_makes_the_result_deep_unless_a_depth_is_asked_for(fuser, depth, dtype):
    shallow, deep = stack(32, 32)[0], deep_stack(32, 32)[0]
    (fused,) = fuser().fuse([FusionInput([shallow, deep], PROMPT, depth)])
    assert fused.dtype == dtype
    np.testing.assert_array_equal(with_depth(fused, 8), shallow)


def test_a_longer_image_is_computed_downscaled_and_returned_at_its_size(fuser, echo):
    ramp = np.linspace(0, 255, 301).astype(np.uint8)[:, None, None]
    source = np.broadcast_to(ramp, (301, 77, 3))
    (fused,) = fuser().fuse([FusionInput([source, source], PROMPT)])
    assert echo.calls[0][0].images.shape[3:5] == (96, 32)
    assert fused.shape == (301, 77, 3)
    assert abs(fused.astype(int) - source).max() <= 3


def test_an_image_that_is_computed_smaller_gives_one_line_that_names_the_remedy(fuser, capsys):
    one = fuser()
    jobs = [(i, FusionInput(stack(301, 77), PROMPT)) for i in range(3)]
    assert list(with_size_warning(jobs, one, "a.png")) == jobs
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a.png is 77x301, computed at 25x96" in line and "--max-side 301" in line
    assert one.computed_size(301, 77) == (96, 25) and one.computed_size(96, 77) is None


def test_without_a_limit_large_images_are_computed_in_full_without_a_word(fuser, echo, capsys):
    sources = stack(301, 77)
    jobs = with_size_warning([(0, FusionInput(sources, PROMPT))], fuser(max_side=0), "a.png")
    (fused,) = fuser(max_side=0).fuse([item for _, item in jobs])
    np.testing.assert_array_equal(fused, sources[0])
    assert not capsys.readouterr().err


def test_placeholders_decide_which_image_is_in_which_slot(fuser):
    sources = stack(32, 32, 3)
    swapped = "<|image_3|> and <|image_1|> and <|image_2|>"
    (fused,) = fuser().fuse([FusionInput(sources, swapped)])
    np.testing.assert_array_equal(fused, sources[2])


@pytest.mark.parametrize(
    ("text", "image", "names"),
    [
        (1.0, 1.0, ["cond"]),
        (2.0, 1.0, ["cond", "img"]),
        (1.5, 1.5, ["cond", "neg"]),
        (2.0, 1.6, ["cond", "img", "neg"]),
    ],
)
def test_only_branches_with_a_weight_are_computed(fuser, echo, trained, text, image, names):
    one = fuser(guidance_scale=text, image_guidance_scale=image)
    one.fuse([FusionInput(stack(32, 32), PROMPT)])
    branches, _, weights = echo.calls[0]
    slots = TextSlots(*trained.sampling.text_slots)
    prompts = {"cond": PROMPT, "img": image_only_prompt(2), "neg": "<cfg>"}
    for row, name in enumerate(names):
        expected = encode_prompt(load_tokenizer(), prompts[name], 2, slots)
        np.testing.assert_array_equal(branches.tokens[row, 0], expected.tokens)
        np.testing.assert_array_equal(branches.token_valid[row, 0], expected.valid)
        assert bool(branches.image_valid[row].all()) == (name != "neg")
    assert len(weights) == len(branches.tokens) == len(names)
    assert weights.sum() == pytest.approx(1.0)


def test_images_of_mixed_sizes_are_batched_by_size_and_returned_in_order(fuser, echo):
    sizes = [(32, 32), (64, 32), (30, 31), (32, 32), (64, 32), (32, 20)]
    jobs = [FusionInput(stack(*size, seed=i), PROMPT) for i, size in enumerate(sizes)]
    fused = fuser(batch_size=3).fuse(jobs)
    for job, image in zip(jobs, fused, strict=True):
        np.testing.assert_array_equal(image, job.sources[0])
    # Four images share a canvas: a full batch, then one of each canvas filled up.
    shapes = [branches.images.shape[1:5] for branches, _, _ in echo.calls]
    assert shapes == [(3, 2, 32, 32), (3, 2, 32, 32), (3, 2, 64, 32)]


def test_all_rows_of_a_batch_start_from_the_noise_of_the_seed(fuser, echo):
    for seed in (0, 1):
        fuser(batch_size=2, seed=seed).fuse([FusionInput(stack(32, 32), PROMPT)] * 2)
    (_, first, _), (_, second, _) = echo.calls
    np.testing.assert_array_equal(first[0], first[1])
    assert (first != second).any()
    assert first.std() == pytest.approx(1.0, abs=0.05)


def test_an_input_is_read_only_after_the_one_before_is_done(fuser):
    read = []

    def jobs():
        for number in range(3):
            read.append(number)
            yield number, FusionInput(stack(16, 16), PROMPT)

    finished = [(set(done), list(read)) for done in fuser().fuse_iter(jobs())]
    assert finished == [({0}, [0]), ({1}, [0, 1]), ({2}, [0, 1, 2])]


def test_too_many_images_and_images_of_different_sizes_are_refused(fuser):
    with pytest.raises(UserError, match="4 images: this model takes at most 3"):
        fuser().check(task_prompt("FUSION", None, "Join them.", 4), 4)
    with pytest.raises(UserError, match="image 1 is 32x32 but image 2 is 31x32"):
        fuser().fuse([FusionInput([*stack(32, 32, 1), *stack(32, 31, 1)], PROMPT)])


def test_prompts_get_the_text_slots_of_the_sampling_settings(fuser, echo):
    fuser(text_slots=(48, 24, 60)).fuse([FusionInput(stack(32, 32), PROMPT)])
    assert echo.calls[0][0].tokens.shape[2:] == (48 + 24 + 60,)


@pytest.mark.parametrize("weight", ["nan", "inf", "much"])
def test_the_weight_of_an_adapter_must_be_finite(weight):
    with pytest.raises(UserError, match=f"the weight '{weight}' is not a finite number"):
        WeightedAdapter.parse(f"folder={weight}")
