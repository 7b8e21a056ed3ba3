"""Requests limited to a region: exact outside, feathered inside its border.

The sampler is replaced by one that answers with the first source, brightened if it is asked to and
with a class marked if it is asked for that.
"""

import numpy as np
import pytest

from ditfuse_jax.degrade import overlay
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import from_uint8, write_image
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample import (
    FusionInput,
    RegionInput,
    StackFuser,
    TrainedModel,
    region_weights,
)
from ditfuse_jax.sample.instructions import Instruction
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.train import load_recipe, resolve

PLAIN, BRIGHTER, MARK = (standard_prompt(task, 2) for task in ("fuse", "light++", "segment:car"))
MARK_SKY = standard_prompt("segment:sky", 2)  # which is nowhere
CAR_MARK, SKY_MARK = (Request("segment", classes=(name,)) for name in ("car", "sky"))
CAR = np.zeros((32, 32), bool)
CAR[10:20, 5:25] = True


@pytest.fixture(scope="module")
def trained():
    recipe = resolve(load_recipe("nano_m3", []))
    return TrainedModel(
        None, None, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "nano"
    )


@pytest.fixture
def fuser(monkeypatch, trained):
    """A fuser of batches of two, with `calls`: the prompts of each batch."""
    settings = trained.sampling.override({"batch_size": 2, "guidance_scale": 1.0})
    slots = TextSlots(*settings.override({"image_guidance_scale": 1.0}).text_slots)
    settings = settings.override({"image_guidance_scale": 1.0})
    known = {
        prompt: encode_prompt(load_tokenizer(), prompt, 2, slots).tokens
        for prompt in (PLAIN, BRIGHTER, MARK, MARK_SKY)
    }
    calls = []

    def sampler(parameters, branches, noise, weights):
        out, prompts = [], []
        for tokens, images in zip(branches.tokens[0], branches.images[0], strict=True):
            (prompt,) = (text for text, row in known.items() if np.array_equal(row, tokens))
            image = np.array(images[0])
            if prompt == BRIGHTER:
                image += 0.25
            if prompt == MARK:
                pixels = np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8)
                image = from_uint8(overlay(pixels, CAR))
            out.append(image)
            prompts.append(prompt)
        calls.append(prompts)
        return np.stack(out)

    monkeypatch.setattr("ditfuse_jax.sample.stack_fuser.make_sampler", lambda *_: sampler)
    one = StackFuser(trained, settings)
    one.calls = calls  # pyright: ignore[reportAttributeAccessIssue]
    return one


def sources(seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, np.iinfo(dtype).max // 2, (32, 32, 3), dtype=dtype) for _ in range(2)]


def mask(rows=slice(8, 24), columns=slice(8, 24)):
    found = np.zeros((32, 32), np.uint8)
    found[rows, columns] = 255
    return found


def results(fuser, *items):
    done = {}
    for part in fuser.fuse_iter(enumerate(items)):
        done |= part
    return [done[number] for number in range(len(items))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outside_it_is_the_plain_fusion_and_inside_the_asked_one(fuser, dtype):
    images = sources(dtype=dtype)
    weights = region_weights(mask(), 4)
    limited, plain, asked = results(
        fuser,
        RegionInput(images, BRIGHTER, plain=PLAIN, weights=weights),
        FusionInput(images, PLAIN),
        FusionInput(images, BRIGHTER),
    )
    assert limited.dtype == dtype
    np.testing.assert_array_equal(limited[weights == 0], plain[weights == 0])
    np.testing.assert_array_equal(limited[weights == 1], asked[weights == 1])
    between = (weights > 0.1) & (weights < 0.9)
    assert between.sum() > 20
    assert (limited[between] > plain[between]).all() and (limited[between] < asked[between]).all()


def test_plain_fusions_form_the_batches_that_they_form_without_a_request(fuser):
    weights = region_weights(mask())
    results(
        fuser, *(RegionInput(sources(i), BRIGHTER, plain=PLAIN, weights=weights) for i in range(3))
    )
    assert sorted(fuser.calls) == sorted([[PLAIN, PLAIN], [BRIGHTER, BRIGHTER]] * 2)


def test_inputs_without_a_region_pass_unchanged(fuser):
    image = sources()
    (fused,) = results(fuser, FusionInput(image, PLAIN))
    np.testing.assert_array_equal(fused, image[0])


def test_a_class_is_where_the_model_marks_it(fuser):
    image = sources()
    (fused,) = results(fuser, RegionInput(image, BRIGHTER, plain=PLAIN, mark=CAR_MARK, feather=0))
    np.testing.assert_array_equal((fused != image[0]).any(-1), CAR)


def test_a_class_that_the_model_does_not_find_is_said_and_changes_nothing(fuser, capsys):
    image = sources()
    (fused,) = results(
        fuser, RegionInput(image, BRIGHTER, plain=PLAIN, mark=SKY_MARK, name="sky in x")
    )
    np.testing.assert_array_equal(fused, image[0])
    assert capsys.readouterr().err.strip() == (
        "warning: sky in x was not found: the request changes nothing"
    )


def test_a_region_of_another_size_is_refused_with_both_sizes(fuser):
    weights = region_weights(np.full((32, 30), 255, np.uint8))
    with pytest.raises(UserError, match="the region is 30x32, but the images are 32x32"):
        results(fuser, RegionInput(sources(), BRIGHTER, plain=PLAIN, weights=weights))


class TestWeights:
    """`region_weights`."""

    def test_the_border_rises_inwards_and_is_never_outside(self):
        weights = region_weights(mask(), 6)
        assert (weights[mask() == 0] == 0).all() and weights[16, 16] == 1
        assert (np.diff(weights[16, 8:14]) > 0).all()

    def test_a_region_at_the_image_border_is_not_feathered_there(self):
        weights = region_weights(mask(columns=slice(0, 16)), 4)
        assert weights[16, 0] == 1 and weights[16, 15] < 0.1

    def test_the_whole_image_has_the_weight_one(self):
        assert (region_weights(np.full((5, 7), 255, np.uint8)) == 1).all()

    def test_greys_apply_in_part_and_compressed_black_and_white_count_as_such(self):
        grey = np.array([[0, 9, 128, 246, 255]], np.uint8)
        np.testing.assert_allclose(region_weights(grey, 0), [[0, 0, 0.502, 1, 1]], atol=1e-3)

    def test_the_default_width_is_two_percent_of_the_shorter_side(self):
        large = np.zeros((500, 600), np.uint8)
        large[:, 300:] = 255
        row = region_weights(large)[250]
        assert ((row > 0) & (row < 1)).sum() == 10

    def test_an_empty_mask_and_a_negative_width_are_refused(self):
        with pytest.raises(UserError, match="region is empty, its brightest grey level is 1"):
            region_weights(np.ones((4, 4), np.uint8))
        for width in (-1, float("nan")):
            with pytest.raises(UserError, match="feather must be 0 or more pixels"):
                region_weights(mask(), width)


class TestRegions:
    """`Regions`: what a user names."""

    @pytest.fixture
    def sampling(self, trained):
        return trained.sampling.override({"requests": "brightness,segment"})

    def item(self):
        return FusionInput(sources(), BRIGHTER, 8)

    def test_a_bad_width_is_refused_before_anything_is_fused(self, sampling):
        with pytest.raises(UserError, match="feather must be 0 or more pixels, not -2"):
            Regions("road", -2, sampling, "ivif")

    def test_each_stack_has_the_mask_of_its_name(self, tmp_path, sampling):
        named = (("one", slice(0, 8)), ("day/one", slice(8, 32)), ("night/one", slice(4, 8)))
        for name, rows in named:
            picture = np.repeat(mask(rows)[..., None], 3, axis=2)
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write_image(tmp_path / f"{name}.png", picture)
        regions = Regions(tmp_path, 0, sampling, "ivif")
        for name, rows in named:
            found = regions.limit(self.item(), name)
            np.testing.assert_array_equal(found.weights, mask(rows) / 255)
            assert found.plain == standard_prompt("ivif", 2) and found.depth == 8
        with pytest.raises(UserError, match=r"no mask named three$"):
            regions.limit(self.item(), "three")
        with pytest.raises(UserError, match="no mask named dusk/one; those of images in folders"):
            regions.limit(self.item(), "dusk/one")

    def test_a_mask_and_a_folder_of_masks_are_never_overwritten(self, tmp_path, sampling):
        write_image(tmp_path / "m.png", np.full((32, 32, 3), 255, np.uint8))
        (tmp_path / "link.png").symlink_to(tmp_path / "m.png")
        one, many = (Regions(path, 0, sampling, "ivif") for path in (tmp_path / "m.png", tmp_path))
        for regions, outputs in (
            (one, [tmp_path / "link.png"]),
            (one, [tmp_path, tmp_path / "m.png"]),
            (many, [tmp_path]),
            (many, [tmp_path.parent / "x", tmp_path / "new.png"]),
        ):
            with pytest.raises(UserError, match="is a region, or among them"):
                regions.check_outputs(outputs)
        one.check_outputs([tmp_path, tmp_path / "other.png"])
        Regions(mask(), 0, sampling, "ivif").check_outputs([tmp_path / "mask"])

    def test_alignment_cuts_the_mask_as_the_images(self, tmp_path, sampling):
        write_image(tmp_path / "m.png", np.repeat(mask()[..., None], 3, axis=2))
        item = FusionInput([image[4:, :20] for image in sources()], BRIGHTER)
        regions = Regions(tmp_path / "m.png", 0, sampling, "fuse")
        found = regions.limit(item, "x", (slice(4, 32), slice(0, 20)))
        np.testing.assert_array_equal(found.weights, mask()[4:, :20] / 255)

    def test_a_mask_of_another_size_is_named(self, tmp_path, sampling):
        write_image(tmp_path / "m.png", np.full((32, 20, 3), 255, np.uint8))
        regions = Regions(tmp_path / "m.png", None, sampling, "fuse")
        with pytest.raises(UserError, match=r"m\.png: the region is 20x32"):
            regions.limit(self.item(), "x")

    def test_a_class_needs_a_model_that_marks_classes(self, sampling, trained):
        found = Regions("car", None, sampling, "light+").limit(self.item(), "x")
        assert (found.plain, found.mark, found.weights) == (PLAIN, CAR_MARK, None)
        with pytest.raises(UserError, match="was not taught to mark classes: give a mask"):
            Regions("car", None, trained.sampling, "fuse")
        with pytest.raises(UserError, match="region 'cat': no such file, and no class"):
            Regions("cat", None, sampling, "fuse")

    def test_a_region_without_a_request_is_refused(self, sampling):
        with pytest.raises(UserError, match="a region limits a request"):
            Regions("car", None, sampling, "ivif").check(Instruction(standard_prompt("ivif", 2)), 2)
