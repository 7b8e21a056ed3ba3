"""Requests applied to the fused image, alone and in regions that a stand-in model marks."""

import numpy as np
import pytest

from ditfuse_jax.degrade import overlay
from ditfuse_jax.degrade.adjust import adjust, blend, emphasise, feather
from ditfuse_jax.degrade.selective import apply_axis
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import Request, parse_requests
from ditfuse_jax.sample import FusionInput, RegionInput
from ditfuse_jax.sample.applied_requests import apply_requests
from ditfuse_jax.sample.compose import compose
from ditfuse_jax.sample.marking import moved_overlay

PLAIN = "<img><|image_1|></img> plain"
LEFT = np.zeros((40, 60), bool)
LEFT[:, :25] = True


def photograph(seed: int = 0, dtype=np.uint8, grey: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :60]
    image = 120 + 40 * np.sin(x / (5 + seed))[..., None] + rng.normal(0, 6, (40, 60, 3))
    image = image + np.array([25, 0, -30]) + y[..., None] / 4
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    pixels = pixels if not grey else np.repeat(pixels[..., :1], 3, axis=2)
    return pixels if dtype == np.uint8 else pixels.astype(np.uint16) * 257


@pytest.mark.parametrize("axis", ["brightness", "contrast", "saturation", "detail"])
@pytest.mark.parametrize("level", [-2, -1, 1, 2])
@pytest.mark.parametrize("classes", [(), ("sky",)])
def test_it_is_the_selective_operation_of_the_axis(axis, level, classes):
    image = photograph()
    request = Request(axis, level, classes)
    applied = apply_requests(image, [image], [request], {("sky",): LEFT})
    weights = feather(LEFT) if classes else None
    changed = apply_axis(image.astype(np.float32), axis, level, weights)
    np.testing.assert_allclose(applied, blend(image, changed, weights), atol=1)
    assert (applied != image).any()


@pytest.mark.parametrize("level", [-2, 1])
def test_emphasis_follows_the_source_that_the_images_show(level):
    colour, grey = photograph(), photograph(3, grey=True)
    fused = photograph(5)
    request = Request("emphasis", level, role="infrared")
    for sources in ([colour, grey], [grey, colour]):
        applied = apply_requests(fused, sources, [request], {})
        index = 0 if sources[0] is grey else 1
        np.testing.assert_allclose(applied, emphasise(fused, sources, index, level), atol=1)


@pytest.mark.parametrize("axis", ["brightness", "contrast", "saturation", "detail"])
def test_sixteen_bits_are_changed_in_full_depth(axis):
    shallow = photograph()
    deep = shallow.astype(np.uint16) * 257 + np.random.default_rng(1).integers(
        -100, 100, shallow.shape, dtype=np.int16
    ).astype(np.uint16)
    applied = apply_requests(deep, [deep], [Request(axis, 1)], {})
    assert applied.dtype == np.uint16 and len(np.unique(applied)) > 1500
    eight = apply_requests(shallow, [shallow], [Request(axis, 1)], {})
    assert np.abs(applied / 257 - eight).mean() < 1


def test_a_class_that_is_nowhere_changes_nothing():
    image = photograph()
    none = {("sky",): np.zeros_like(LEFT)}
    request = Request("brightness", 2, ("sky",))
    np.testing.assert_array_equal(apply_requests(image, [image], [request], none), image)


def test_an_overlay_is_the_same_on_the_changed_image():
    plain = photograph()
    changed = adjust(plain, "brightness", -1)
    moved = moved_overlay(changed, overlay(plain, LEFT), plain)
    np.testing.assert_allclose(moved, overlay(changed, LEFT), atol=2)
    np.testing.assert_array_equal(moved[~LEFT], changed[~LEFT])


class Model:
    """Gives the first source, and marks LEFT as sky; notes the prompts that it is asked."""

    def __init__(self):
        self.prompts = []

    def __call__(self, inputs):
        for number, item in inputs:
            self.prompts.append(item.prompt)
            marks = item.prompt == requests_prompt(parse_requests("segment sky"), 2)
            image = item.sources[0]
            yield {number: overlay(image, LEFT) if marks else image}


def run(*items):
    model, done = Model(), {}
    for part in compose(model, enumerate(items)):
        done |= part
    return [done[number] for number in range(len(items))], model


def item(text: str, **more) -> FusionInput:
    sources = [photograph(), photograph(3)]
    return FusionInput(sources, PLAIN, applied=parse_requests(text), plain=PLAIN, **more)


def test_requests_for_the_whole_image_need_one_fusion():
    (image,), model = run(item("saturation -2; detail +1"))
    assert model.prompts == [PLAIN]
    assert np.ptp(image.astype(int), axis=-1).max() <= 1


def test_a_request_for_a_class_applies_where_the_model_marks_it():
    (image,), model = run(item("sky: brightness +2"))
    assert len(model.prompts) == 2
    change = np.abs(image.astype(int) - photograph()).mean(axis=-1)
    assert change[:, :18].mean() > 20 and change[:, 33:].max() == 0


def test_a_class_that_the_model_does_not_find_is_said_and_the_rest_is_done(capsys):
    (image,), _ = run(item("road: brightness +2; saturation -2", name="street"))
    grey = apply_requests(photograph(), [], [Request("saturation", -2)], {})
    np.testing.assert_array_equal(image, grey)
    assert "road was not found in street" in capsys.readouterr().err


def test_classes_are_marked_on_the_image_that_was_changed():
    (image,), model = run(item("brightness +1; segment sky"))
    assert len(model.prompts) == 2
    brighter = apply_requests(photograph(), [], [Request("brightness", 1)], {})
    np.testing.assert_allclose(image, overlay(brighter, LEFT), atol=2)


def test_in_a_region_applied_requests_need_one_fusion_and_leave_the_outside():
    asked = item("contrast -2")
    region = RegionInput(
        asked.sources, PLAIN, applied=asked.applied, plain=PLAIN, weights=LEFT.astype(np.float32)
    )
    (image,), model = run(region)
    assert model.prompts == [PLAIN]
    flat = apply_requests(photograph(), [], asked.applied, {})
    np.testing.assert_array_equal(image[~LEFT], photograph()[~LEFT])
    np.testing.assert_array_equal(image[LEFT], flat[LEFT])


def test_inputs_that_differ_in_applied_requests_have_different_digests():
    digests = {item(text).digest for text in ("detail +1", "detail +2", "sky: detail +1")}
    assert len(digests) == 3 and "" not in digests
    assert FusionInput([], PLAIN).digest == ""


def test_a_source_that_the_images_do_not_show_is_said_once(capsys):
    run(*(item("emphasis infrared +1", name=f"{k}.png") for k in range(3)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: 0.png: the images do not show which one is the infrared")


def test_requests_about_one_scene_share_its_fusions():
    sources = [photograph(), photograph(3)]
    texts = ["detail +1", "sky: brightness +1", "sky: contrast -1; detail -2", "saturation +2"]
    items = [FusionInput(sources, PLAIN, applied=parse_requests(x), plain=PLAIN) for x in texts]
    alone = [run(one)[0][0] for one in items]
    together, model = run(*items, *items)
    assert len(model.prompts) == 2
    for one, other in zip([*alone, *alone], together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_scenes_of_equal_prompts_are_not_mixed_up():
    others = FusionInput([photograph(7), photograph(3)], PLAIN)
    (first, second, third), model = run(FusionInput([photograph()] * 2, PLAIN), others, others)
    assert len(model.prompts) == 2 and second is not third
    np.testing.assert_array_equal(first, photograph())
    np.testing.assert_array_equal(second, photograph(7))
    np.testing.assert_array_equal(third, photograph(7))


@pytest.mark.parametrize("role", ["visible", None])
def test_a_repair_restores_the_source_before_the_fusion(role):
    clean, infrared = photograph(), photograph(3, grey=True)
    dark = (clean // 6).astype(np.uint8)
    seen = []

    def fuse(inputs):
        for number, one in inputs:
            seen.append(one.sources)
            yield {number: one.sources[0]}

    requests = (Request("repair", defect="dark", role=role),)
    asked = FusionInput([dark, infrared], PLAIN, applied=requests, plain=PLAIN)
    ((image,),) = [list(done.values()) for done in compose(fuse, [(0, asked)])]
    assert abs(image.mean() - clean.mean()) < 25 < clean.mean() - dark.mean()
    assert (seen[0][1] is infrared) == (role == "visible")
    assert (dark == clean // 6).all()


def test_an_array_that_is_freed_is_never_taken_for_a_later_one():
    """With batches, inputs are read ahead of the images that are done."""

    def fuse_in_pairs(inputs):
        waiting = []
        for number, one in inputs:
            waiting.append((number, one))
            if len(waiting) == 2:
                yield {k: one.sources[0].copy() for k, one in waiting}
                waiting.clear()
        yield {k: one.sources[0].copy() for k, one in waiting}

    def inputs():
        for number in range(200):
            yield number, FusionInput([np.full((64, 64, 3), number, np.uint8)], PLAIN)

    for done in compose(fuse_in_pairs, inputs()):
        for number, image in done.items():
            assert image[0, 0, 0] == number


def test_a_source_keeps_its_role_when_it_is_repaired():
    dark, bright = photograph() // 4, photograph(3) // 2 + 100
    requests = parse_requests("repair dark under; emphasis under +2")
    asked = FusionInput([dark, bright], PLAIN, applied=requests, plain=PLAIN)
    (image,), _ = run(asked)
    assert np.abs(image.astype(int) - dark).mean() < np.abs(image.astype(int) - bright).mean()


def test_the_plain_prompt_counts_where_an_overlay_is_drawn_over_its_fusion():
    mark = requests_prompt(parse_requests("segment sky"), 2)
    digests = {FusionInput([], mark, plain=plain).digest for plain in (PLAIN, f"{PLAIN} other")}
    assert len(digests) == 2
    assert FusionInput([], PLAIN, plain=PLAIN).digest == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("saturation +1", "saturation +1 changes nothing: the images are grey"),
        ("repair cast first", "repair cast first changes nothing: the images are grey"),
        ("repair blurred first", "repair blurred first changes nothing: a side has only 40 pixels"),
    ],
)
def test_a_request_that_can_change_nothing_is_said(text, line, capsys):
    sources = [photograph(grey=True), photograph(3, grey=True)]
    asked = FusionInput(sources, PLAIN, applied=parse_requests(text), plain=PLAIN, name="x.png")
    (image,), _ = run(asked)
    np.testing.assert_allclose(image, sources[0], atol=1)
    assert capsys.readouterr().err.strip() == f"warning: x.png: {line}"


class TestMarking:
    """Classes of an infrared-visible pair are marked in the visible image."""

    colour, grey = photograph(), photograph(3, grey=True)

    def fuse(self, inputs):
        """Marks LEFT, but only in photographs; fuses to the mean."""
        for number, one in inputs:
            image = np.mean(one.sources, axis=0).astype(np.uint8)
            in_photographs = all(np.ptp(source, axis=-1).any() for source in one.sources)
            marks = one.prompt == requests_prompt(parse_requests("segment sky"), 2)
            yield {number: overlay(image, LEFT) if marks and in_photographs else image}

    def result(self, item):
        (done,) = compose(self.fuse, [(0, item)])
        return done[0]

    def test_a_request_for_a_class_finds_it(self):
        item = FusionInput(
            [self.grey, self.colour],
            PLAIN,
            applied=parse_requests("sky: brightness -2"),
            plain=PLAIN,
        )
        change = self.result(item).astype(int) - np.mean([self.grey, self.colour], axis=0)
        assert change[:, :18].mean() < -20 and np.abs(change[:, 33:]).max() <= 1

    def test_the_models_own_overlay_is_drawn_over_the_fusion_of_all_sources(self):
        prompt = requests_prompt(parse_requests("segment sky"), 2)
        fused = np.mean([self.colour, self.grey], axis=0).astype(np.uint8)
        image = self.result(FusionInput([self.colour, self.grey], prompt, plain=PLAIN))
        np.testing.assert_allclose(image, overlay(fused, LEFT), atol=2)
        np.testing.assert_array_equal(image[~LEFT], fused[~LEFT])

    def test_a_prompt_alone_is_fused_as_it_is(self):
        prompt = requests_prompt(parse_requests("segment sky"), 2)
        image = self.result(FusionInput([self.colour, self.grey], prompt))
        fused = np.mean([self.colour, self.grey], axis=0).astype(np.uint8)
        np.testing.assert_array_equal(image, fused)
