"""What is done with fused images after sampling."""

import cv2
import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.images import write_image
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.compose import compose
from ditfuse_jax.sample.fingerprints import extension_digest
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput
from ditfuse_jax.sample.instructions import Instruction
from ditfuse_jax.sample.marking import OverlayMarks
from ditfuse_jax.sample.refinement import REFINEMENTS, check_refine, refined

FOCUS = "[FUSION]. <MULTI-FOCUS>. <img><|image_1|></img> <img><|image_2|></img> Fuse."


def _focuses() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    sharp = cv2.resize(sharp, (128, 80), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = blurred[:, 64:], blurred[:, :64]
    return [left, right]


@pytest.fixture(scope="module")
def fuser() -> Fuser:
    return Fuser.load("small")


def _share_copied(image: np.ndarray, sources: list[np.ndarray]) -> float:
    return float(
        np.mean([(image == one).all(axis=-1) for one in sources], axis=0).astype(bool).mean()
    )


def test_the_bundled_model_copies_most_pixels_of_two_focuses(fuser):
    sources = _focuses()
    assert _share_copied(fuser(*sources, task="mff").image, sources) > 0.7
    plain = fuser(*sources, task="mff", refine=False).image
    assert _share_copied(plain, sources) < 0.5


def test_fusions_of_other_kinds_of_sources_are_those_of_the_model(fuser):
    sources = _focuses()
    for task in ("ivif", "fuse"):
        image = fuser(*sources, task=task).image
        np.testing.assert_array_equal(image, fuser(*sources, task=task, refine=False).image)


def test_what_a_request_has_changed_is_not_undone(monkeypatch):
    monkeypatch.setitem(REFINEMENTS._entries, "MULTI-FOCUS", lambda image, sources: sources[0])
    image = np.full((8, 8, 3), 200, np.uint8)
    sources = [np.zeros_like(image), np.zeros_like(image)]
    for tags in ("[CONTROL]. <LIGHT+>", "[FUSION]. <MULTI-FOCUS>. <LIGHT+>", "[SEG]", "no tags"):
        np.testing.assert_array_equal(refined(image, sources, f"{tags}. Fuse."), image)
    assert not refined(image, sources, FOCUS).any()


def test_an_extension_adds_a_refinement_for_its_tag(monkeypatch):
    monkeypatch.setitem(REFINEMENTS._entries, "MULTI-ANGLE", lambda image, sources: sources[0])
    image = np.full((2, 2, 3), 9, np.uint8)
    sources = [np.zeros_like(image)] * 2
    assert not refined(image, sources, "[FUSION]. <MULTI-ANGLE>. Fuse.").any()


@pytest.mark.parametrize("refine", [True, False])
def test_the_code_of_an_extension_that_refines_counts_for_whether_images_have_changed(
    fuser, tmp_path, monkeypatch, refine
):
    monkeypatch.setattr(REFINEMENTS, "_entries", dict(REFINEMENTS))
    monkeypatch.setattr("ditfuse_jax.extensions._loaded", {})
    path = tmp_path / f"angles_{refine}.py"
    path.write_text(
        "from ditfuse_jax.sample.refinement import REFINEMENTS\n"
        "REFINEMENTS.register('MULTI-ANGLE', lambda image, sources: sources[0])\n"
    )
    load_extensions([str(path)])
    sampler = fuser.sampler(refine=refine)
    before = extension_digest(sampler)
    path.write_text(path.read_text() + "# edited")
    assert (extension_digest(sampler) != before) == refine


def test_refine_is_refused_where_no_image_would_be_refined(fuser):
    sources = _focuses()
    for options in ({"task": "ivif"}, {}):
        with pytest.raises(UserError, match=r"^refine has no effect: .* leave it out$"):
            fuser(*sources, **options, refine=True)
        with pytest.raises(UserError, match=r"^refine has no effect: "):
            fuser.batch([sources, sources], **options, refine=True)
        with pytest.raises(UserError, match=r"^refine has no effect: "):
            fuser.prepare(sources, **options, refine=True)  # as the server and the page do
        with pytest.raises(UserError, match=r"^refine has no effect: "):
            next(fuser.stream([sources], **options, refine=True))
    assert _share_copied(fuser(*sources, task="mff", refine=True).image, sources) > 0.7


def test_a_request_that_the_model_does_itself_is_refined_only_outside_of_a_region(fuser):
    taught = Instruction("[CONTROL]. <LIGHT+>. Fuse.", plain=FOCUS)
    sampling = fuser.sampling.override({"refine": True})
    with pytest.raises(UserError, match=r"^refine has no effect: "):
        check_refine({"refine": True}, sampling, [taught], region=False)
    check_refine({"refine": True}, sampling, [taught], region=True)
    check_refine({"refine": None}, sampling, [taught], region=False)  # not given


def test_the_command_refuses_refine_before_it_writes_anything(tmp_path, capsys):
    for name, image in zip("ab", _focuses(), strict=True):
        write_image(tmp_path / f"{name}.png", image)
    words = ["fuse", *(str(tmp_path / f"{name}.png") for name in "ab"), "--checkpoint", "small"]
    output = tmp_path / "out" / "x.png"
    assert main([*words, "-o", str(output), "--task", "ivif", "--refine", "true"]) == 2
    assert capsys.readouterr().err.startswith("ditfuse fuse: error: refine has no effect: ")
    assert not output.parent.exists()


def test_classes_are_found_in_fusions_as_the_model_gives_them():
    grey = np.full((4, 4, 3), 100, np.uint8)
    marked = grey.copy()
    marked[:2] = (250, 20, 20)
    seen = []

    def fuse(inputs):
        for number, item in inputs:
            yield {number: marked if item.prompt.startswith("[SEG]") else grey}

    class Marks(OverlayMarks):
        def find(self, request, marked, plain):
            seen.append(plain.copy())
            return super().find(request, marked, plain)

    item = FusionInput(
        [grey, grey], FOCUS, applied=(Request("brightness", 1, ("sky",)),), plain=FOCUS
    )
    ((image,),) = [
        list(done.values())
        for done in compose(fuse, [(0, item)], Marks(), lambda image, part: image // 2)
    ]
    np.testing.assert_array_equal(seen[0], grey)  # not refined
    assert image[3, 3, 0] < 80  # the refined fusion, brighter; 100 and more otherwise


def test_in_a_region_a_request_keeps_what_the_refinement_changes():
    grey = np.full((4, 4, 3), 100, np.uint8)

    def fuse(inputs):
        for number, item in inputs:
            yield {number: grey if item.prompt == FOCUS else grey + 60}

    def refine(image, part):
        return image - 30 if part.prompt == FOCUS else image

    weights = np.zeros((4, 4), np.float32)
    weights[:2] = 1
    item = RegionInput([grey, grey], FOCUS + " Brighter.", plain=FOCUS, weights=weights)
    ((image,),) = [list(done.values()) for done in compose(fuse, [(0, item)], refine=refine)]
    assert (image[:2] == 130).all()  # 160 - 30
    assert (image[2:] == 70).all()


def test_a_fusion_that_several_inputs_share_is_refined_once():
    grey = np.full((4, 4, 3), 100, np.uint8)
    sources, refinements = [grey, grey], []

    def fuse(inputs):
        for number, _ in inputs:
            yield {number: grey}

    def refine(image, part):
        refinements.append(part.prompt)
        return image // 2

    items = [
        FusionInput(sources, FOCUS, applied=(Request("brightness", level),), plain=FOCUS)
        for level in (-1, 1, 2)
    ]
    images = {}
    for done in compose(fuse, enumerate(items), refine=refine):
        images.update(done)
    assert len(images) == 3
    assert refinements == [FOCUS]
