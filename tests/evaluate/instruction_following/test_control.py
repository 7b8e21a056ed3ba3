"""Control measured on stand-in models that follow, ignore, reverse or misread instructions.

Their fused image is the first source, with the tone of the prompt's tag.
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

pytestmark = pytest.mark.medium

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
def measure(monkeypatch, pairs, tmp_path):
    """Evaluates a stand-in: a function of the first source, the tag or None, and the prompt."""

    def run(behave, **options):
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
            control, "open_model", lambda *_, **__: EvaluatedModel(fuser, tmp_path / "out")
        )
        return evaluate_control(checkpoint=tmp_path, data=pairs, quiet=True, **options).summary()

    return run


def following(image, tag, job):
    return adjust_tone(image, tag) if tag else image


def test_a_model_that_follows_any_wording_is_ordered_and_keeps_the_structure(measure):
    found = measure(following)
    for scale in found["scales"].values():
        assert scale["strictly_ordered"] == scale["ordered_neighbours"] == 1
        assert scale["kendall_tau"] == 1
        assert scale["step"] > 5
        assert scale["levels"] == scale["targets"]
    assert found["structure"] == found["target_structure"]
    assert 0.8 < min(found["structure"].values()) <= max(found["structure"].values()) <= 1
    assert len(found["paraphrases"]) == 7
    for row in found["paraphrases"].values():
        assert row["outputs"] == 2 * SENTENCES
        assert row["ssim"] == pytest.approx(1)
        assert row["psnr"] == row["psnr_to_training"] == math.inf
        assert row["spread_over_step"] == 0


def test_a_model_that_ignores_instructions_has_no_order_and_no_spread(measure):
    found = measure(lambda image, tag, job: image)
    for scale in found["scales"].values():
        assert scale["strictly_ordered"] == scale["ordered_neighbours"] == scale["step"] == 0
        assert scale["kendall_tau"] == 0
    assert all(math.isnan(row["spread_over_step"]) for row in found["paraphrases"].values())


def test_a_model_that_reverses_instructions_has_the_reverse_order(measure):
    def reversing(image, tag, job):
        signs = str.maketrans("+-", "-+")
        return adjust_tone(image, tag.translate(signs)) if tag else image

    for scale in measure(reversing)["scales"].values():
        assert scale["kendall_tau"] == -1
        assert scale["ordered_neighbours"] == 0


def test_a_form_that_the_model_misreads_stands_out(measure):
    held_out = [
        one
        for one in INSTRUCTION_POOLS.find("contrast_plus").instructions
        if one.split == "heldout"
    ]
    unknown = held_out[0].form

    def misreading(image, tag, job):
        own = [one.form for one in held_out if job.prompt.endswith(one.text)]
        return image if own == [unknown] else following(image, tag, job)

    found = measure(misreading)
    assert found["forms"].pop(unknown)["psnr"] < 40
    assert all(row["psnr"] == math.inf for row in found["forms"].values())
    assert found["paraphrases"].pop("contrast_plus")["spread_over_step"] > 0
    assert all(row["spread_over_step"] == 0 for row in found["paraphrases"].values())


def test_scenes_take_turns_with_the_held_out_sentences(measure):
    prompts = {}

    def record(image, tag, job):
        prompts.setdefault(tag, []).append(job.prompt)
        return image

    measure(record)
    for tag in TONES:
        pool = INSTRUCTION_POOLS.find(control.POOLS[tag])
        held_out = pool.sentences_of("heldout")
        standard = standard_prompt(tag.lower(), 2, pool.sentences[0])
        assert prompts[tag].count(standard) == 2  # one per scene
        others = [prompt for prompt in prompts[tag] if prompt != standard]
        expected = [held_out[k % len(held_out)] for k in range(2 * SENTENCES)]
        assert others == [standard_prompt(tag.lower(), 2, text) for text in expected]


def test_without_tags_prompts_are_sentences_only(measure, tmp_path):
    prompts = set()

    def record(image, tag, job):
        prompts.add((tag, job.prompt))
        return image

    measure(record, count=1, tags=False)
    assert (None, as_prompt(INSTRUCTION_POOLS.find("light_plus").sentences[0], 2)) in prompts
    assert {tag for tag, _ in prompts} == {None}
    assert all(prompt.startswith("[FUSION]. This is") for _, prompt in prompts)
    assert json.loads((tmp_path / "out" / "control.json").read_text())["tags"] is False


def test_prompts_of_levels_are_like_those_of_training():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = {TASKS["control_m3"]([image], rng, None).prompt for _ in range(400)}
    shapes = {re.sub(r"(</img>\.).*", r"\1", prompt) for prompt in seen}
    for tag in TONES:
        made = standard_prompt(
            tag.lower(), 2, INSTRUCTION_POOLS.find(control.POOLS[tag]).sentences[0]
        )
        assert re.sub(r"(</img>\.).*", r"\1", made) in shapes


def test_results_are_strict_json_and_levels_are_pictured(measure, tmp_path):
    measure(following, count=1)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "out" / "control.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found["run"]["checkpoint"] == "stand-in"
    assert set(found["images"]) == {"x"}
    assert found["paraphrases"]["fusion"]["psnr"] is None  # infinite
    sheet = read_image(tmp_path / "out" / "control.png")
    assert sheet.shape[1] > 9 * 200


def test_an_unknown_task_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(UserError, match="task 'nap' is unknown"):
        evaluate_control(checkpoint=tmp_path / "none", data="samples:heldout", task="nap")
