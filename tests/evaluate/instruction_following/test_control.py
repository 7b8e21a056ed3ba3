"""Control, measured on stand-ins of known behaviour: obedient, deaf, contrary, hard of hearing.

Their fused image is the first source, in the tone of the prompt's tag.
"""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from ditfuse_jax.degrade import TONES, adjust_tone
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.instruction_following import control
from ditfuse_jax.evaluate.instruction_following.control import SENTENCES, evaluate_control
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.prompts import INSTRUCTION_POOLS, as_prompt
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.tasks import TASKS

TAG = re.compile(r"\[CONTROL\]\. <([^>]+)>")


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("image1", "image2"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for stem in ("x", "y"):
            small = rng.integers(60, 190, (4, 4, 3), dtype=np.uint8)
            write_image(tmp_path / "pairs" / side / f"{stem}.png", small.repeat(8, 0).repeat(8, 1))
    return str(tmp_path / "pairs")


@pytest.fixture
def examine(monkeypatch, pairs, tmp_path):
    """Examines a stand-in: a function of the first source, the tag or None, and the prompt."""

    def run(behave, **words):
        def fuse(jobs):
            return [
                behave(job.sources[0], found[1] if (found := TAG.match(job.prompt)) else None, job)
                for job in jobs
            ]

        sampling = SamplingConfig(steps=1, guidance_scale=1.0, image_guidance_scale=1.0)
        fuser = SimpleNamespace(
            fuse=fuse, sampling=sampling, trained=SimpleNamespace(name="stand-in")
        )
        monkeypatch.setattr(
            control, "open_model", lambda *_: EvaluatedModel(fuser, tmp_path / "out")
        )
        return evaluate_control(checkpoint=tmp_path, data=pairs, quiet=True, **words).summary()

    return run


def obedient(image, tag, job):
    return adjust_tone(image, tag) if tag else image


def test_an_obedient_model_is_ordered_keeps_the_picture_and_takes_any_words(examine):
    found = examine(obedient)
    for scale in found["scales"].values():
        assert scale["strictly_ordered"] == scale["ordered_neighbours"] == 1
        assert scale["kendall_tau"] == 1
        assert scale["step"] > 5
        assert scale["levels"] == scale["asked"]
    assert found["structure"] == found["structure_asked"]
    assert 0.8 < min(found["structure"].values()) <= max(found["structure"].values()) <= 1
    assert len(found["paraphrases"]) == 7
    for row in found["paraphrases"].values():
        assert row["outputs"] == 2 * SENTENCES
        assert row["ssim"] == pytest.approx(1)
        assert row["psnr"] == row["psnr_to_training"] == math.inf
        assert row["spread_over_step"] == 0


def test_a_deaf_model_agrees_with_itself_and_is_in_no_order(examine):
    found = examine(lambda image, tag, job: image)
    for scale in found["scales"].values():
        assert scale["strictly_ordered"] == scale["ordered_neighbours"] == scale["step"] == 0
        assert scale["kendall_tau"] == 0
    assert all(math.isnan(row["spread_over_step"]) for row in found["paraphrases"].values())


def test_a_contrary_model_has_the_reverse_order(examine):
    def contrary(image, tag, job):
        signs = str.maketrans("+-", "-+")
        return adjust_tone(image, tag.translate(signs)) if tag else image

    for scale in examine(contrary)["scales"].values():
        assert scale["kendall_tau"] == -1
        assert scale["ordered_neighbours"] == 0


def test_a_model_that_misreads_one_form_is_found_out_by_it(examine):
    held_out = [
        one
        for one in INSTRUCTION_POOLS.find("contrast_plus").instructions
        if one.split == "heldout"
    ]
    unknown = held_out[0].form

    def hard_of_hearing(image, tag, job):
        own = [one.form for one in held_out if job.prompt.endswith(one.text)]
        return image if own == [unknown] else obedient(image, tag, job)

    found = examine(hard_of_hearing)
    assert found["forms"].pop(unknown)["psnr"] < 40
    assert all(row["psnr"] == math.inf for row in found["forms"].values())
    assert found["paraphrases"].pop("contrast_plus")["spread_over_step"] > 0
    assert all(row["spread_over_step"] == 0 for row in found["paraphrases"].values())


def test_every_scene_takes_its_sentences_from_the_held_out_ones_in_turn(examine):
    asked = {}

    def note(image, tag, job):
        asked.setdefault(tag, []).append(job.prompt)
        return image

    examine(note)
    for tag in TONES:
        pool = INSTRUCTION_POOLS.find(control.POOLS[tag])
        held_out = pool.sentences_of("heldout")
        standard = standard_prompt(tag.lower(), 2, pool.sentences[0])
        assert asked[tag].count(standard) == 2  # one a scene
        others = [prompt for prompt in asked[tag] if prompt != standard]
        expected = [held_out[k % len(held_out)] for k in range(2 * SENTENCES)]
        assert others == [standard_prompt(tag.lower(), 2, text) for text in expected]


def test_without_tags_the_sentence_is_all_that_is_asked(examine, tmp_path):
    asked = set()

    def note(image, tag, job):
        asked.add((tag, job.prompt))
        return image

    examine(note, count=1, tags=False)
    assert (None, as_prompt(INSTRUCTION_POOLS.find("light_plus").sentences[0], 2)) in asked
    assert {tag for tag, _ in asked} == {None}
    assert all(prompt.startswith("[FUSION]. This is") for _, prompt in asked)
    assert json.loads((tmp_path / "out" / "control.json").read_text())["tags"] is False


def test_prompts_of_levels_are_those_of_training():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = {TASKS["control_m3"]([image], rng, None).prompt for _ in range(400)}
    shapes = {re.sub(r"(</img>\.).*", r"\1", prompt) for prompt in seen}
    for tag in TONES:
        made = standard_prompt(
            tag.lower(), 2, INSTRUCTION_POOLS.find(control.POOLS[tag]).sentences[0]
        )
        assert re.sub(r"(</img>\.).*", r"\1", made) in shapes


def test_findings_are_strict_json_and_the_levels_are_pictured(examine, tmp_path):
    examine(obedient, count=1)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "out" / "control.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found["run"]["checkpoint"] == "stand-in"
    assert set(found["images"]) == {"x"}
    assert found["paraphrases"]["fusion"]["psnr"] is None  # infinite
    sheet = read_image(tmp_path / "out" / "control.png")
    assert sheet.shape[1] > 9 * 200


def test_an_unknown_task_is_told_before_anything_is_loaded(tmp_path):
    with pytest.raises(UserError, match="task 'nap' is unknown"):
        evaluate_control(checkpoint=tmp_path / "none", data="samples:heldout", task="nap")
