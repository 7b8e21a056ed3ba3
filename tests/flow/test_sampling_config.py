"""The sampling settings: their checks, and what is derived from their fields."""

import argparse
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from ditfuse_jax import flow
from ditfuse_jax.cli.model_options import add_sampling_options, sampling_overrides
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel
from ditfuse_jax.flow import Guidance, GuidanceRule, SamplingConfig
from ditfuse_jax.model import preset
from ditfuse_jax.sample.fused import image_metadata
from ditfuse_jax.sample.instructions import Instruction
from ditfuse_jax.sweep.plan import sampling_options
from ditfuse_jax.train import default_config, resolve


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -4),
        ("steps", 2.5),
        ("steps", True),
        ("solver", 3),
        ("shift", 0.0),
        ("guidance_interval", (0.5, 0.5)),
        ("guidance_interval", (0.7, 0.2)),
        ("guidance_interval", (-0.1, 0.5)),
        ("guidance_interval", (0.0, 1.1)),
        ("guidance_interval", (0.0, float("nan"))),
        ("guidance_interval", 0.5),
        ("guidance_rescale", -0.1),
        ("guidance_rescale", 1.1),
        ("apg_threshold", -1.0),
        ("apg_momentum", 1.0),
        ("apg_momentum", -1.0),
        ("apg_eta", float("inf")),
        ("batch_size", 0),
        ("max_side", 15),
        ("seed", -1),
        ("seed", 2**32),
        ("tile", -1),
        ("tile", 63),
        ("global_steps", -1),
        ("global_steps", 50),
        ("guidance_scale", float("nan")),
        ("image_guidance_scale", float("inf")),
        ("text_slots", (64, 0, 160)),
        ("text_slots", (64, 160)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^{name} must be .* not "):
        SamplingConfig(**{name: value})
    with pytest.raises(UserError, match=rf"^sample\.{name} must be .* not "):
        SamplingConfig.from_dict({name: value})


def test_a_negative_prompt_that_places_images_is_refused():
    with pytest.raises(UserError, match=r"^negative_prompt .* places images"):
        SamplingConfig(negative_prompt="<img><|image_1|></img>")


def test_an_unknown_key_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^sample\.stpes is unknown; known keys: steps, solver"):
        SamplingConfig.from_dict({"stpes": 3})
    with pytest.raises(UserError, match=r"^sampling setting 'stpes' is unknown"):
        SamplingConfig().override({"stpes": 3})


def test_values_read_from_json_equal_those_of_python():
    read = SamplingConfig.from_dict({"text_slots": [64, 32, 160], "guidance_scale": 2})
    assert read == SamplingConfig()
    assert isinstance(read.guidance_scale, float) and hash(read) == hash(SamplingConfig())
    assert SamplingConfig.from_dict(read.to_dict()) == read


def test_overrides_of_none_keep_the_value():
    config = SamplingConfig(steps=7).override({"steps": None, "seed": 5})
    assert (config.steps, config.seed) == (7, 5)


def test_fewer_steps_leave_fewer_global_steps():
    config = SamplingConfig(steps=4, global_steps=2)
    assert [config.override({"steps": n}).global_steps for n in (4, 3, 2, 1)] == [2, 2, 1, 0]
    with pytest.raises(UserError, match=r"^global_steps must be below steps \(3\), not 3$"):
        config.override({"steps": 3, "global_steps": 3})


def test_the_guidance_has_the_two_scales():
    config = SamplingConfig(guidance_scale=3.0, image_guidance_scale=1.5)
    assert config.guidance == Guidance(text=3.0, image=1.5)


def test_the_guidance_has_the_settings_of_its_rule():
    config = SamplingConfig(
        guidance_interval=(0, 0.5),
        guidance_rescale=0.3,
        apg_eta=0.0,
        apg_threshold=0.1,
        apg_momentum=-0.5,
    )
    assert config.guidance.rule == GuidanceRule((0.0, 0.5), 0.3, 0.0, 0.1, -0.5)
    assert isinstance(config.guidance_interval[0], float)
    assert SamplingConfig().guidance.rule.plain


def test_an_unknown_shift_rule_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^shift rule 'sd4' is unknown; choose from constant, sd3"):
        SamplingConfig(shift_rule="sd4")


def test_tiles_are_checked_against_the_model():
    pixels, latents = preset("nano"), preset("omnigen")
    multiple = pixels.size_multiple
    SamplingConfig(tile=8 * multiple, global_steps=1).check_model(pixels)
    with pytest.raises(UserError, match=rf"^tile must be a multiple of {multiple} pixels"):
        SamplingConfig(tile=8 * multiple + 1).check_model(pixels)
    with pytest.raises(UserError, match=r"^global_steps needs a model on pixels"):
        SamplingConfig(global_steps=1).check_model(latents)


def test_a_checkpoint_s_older_names_of_the_guidance_scales_are_read():
    config = default_config("nano").to_dict()
    del config["sample"]["guidance_scale"], config["sample"]["image_guidance_scale"]
    config["sample"] |= {"guidance": 3.0, "image_guidance": 1.25}
    assert resolve(config).sampling.guidance == Guidance(text=3.0, image=1.25)


def test_a_new_field_is_an_option_a_sweep_key_a_recipe_key_and_in_metadata_and_reports(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Extended(SamplingConfig):
        churn: float = dataclasses.field(default=0.5, metadata={"help": "noise added"})

    monkeypatch.setattr(flow, "SamplingConfig", Extended)
    monkeypatch.setattr("ditfuse_jax.cli.model_options.SamplingSettings", Extended)
    parser = argparse.ArgumentParser()
    add_sampling_options(parser)
    given = sampling_overrides(parser.parse_args(["--churn", "0.25", "--text-slots", "8,4,16"]))
    config = Extended().override(given)
    assert (config.to_dict()["churn"], config.text_slots) == (0.25, (8, 4, 16))
    assert sampling_options()["--config.sample.churn"] == "--churn"
    trained = SimpleNamespace(name="tiny")
    fuser = SimpleNamespace(sampling=config, trained=trained)
    metadata = image_metadata(Instruction("a prompt"), ["a.png"], fuser)  # pyright: ignore[reportArgumentType]
    assert metadata["churn"] == "0.25"
    evaluated = EvaluatedModel(fuser, Path("out"))  # pyright: ignore[reportArgumentType]
    assert evaluated.facts("data")["churn"] == 0.25
    assert Extended.from_dict({"churn": 1}).to_dict()["churn"] == 1.0


def test_every_setting_has_a_help_text():
    for field in dataclasses.fields(SamplingConfig):
        assert field.metadata["help"], field.name


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({}, {"guidance_rescale": 0.5}, r"guidance_rescale has no effect without guidance"),
        ({}, {"apg_eta": 0.0}, r"apg_eta has no effect without guidance"),
        ({}, {"negative_prompt": "blurred"}, r"negative_prompt has no effect with image_guid"),
        ({"guidance_scale": 2.0}, {"negative_prompt": "blurred"}, r"negative_prompt has no effect"),
        ({"steps": 3}, {"global_steps": 1}, r"global_steps has no effect without tiles"),
        ({}, {"class_map_side": 240}, r"class_map_side has no effect without class_map"),
        ({}, {"class_overlays": "sky"}, r"class_overlays has no effect without class_map"),
    ],
)
def test_a_change_that_another_setting_makes_useless_is_refused_by_name(settings, changes, message):
    plain = {"guidance_scale": 1.0, "image_guidance_scale": 1.0, **settings}
    config = SamplingConfig(**plain)
    with pytest.raises(UserError, match=f"^{message}"):
        config.override(changes)
    # What makes it useful may come in the same call; a usual value asks for nothing.
    useful = {"guidance_scale": 2.0, "image_guidance_scale": 1.6, "tile": 64, "class_map": True}
    assert config.override(changes | useful).steps == config.steps
    usual = SamplingConfig().to_dict()
    config.override({name: usual[name] for name in changes})


def test_classes_that_are_marked_alone_are_known_ones():
    assert SamplingConfig(class_overlays=" sky, car,sky").marked_alone == ("sky", "car")
    with pytest.raises(UserError, match=r"unknown class 'cloud': choose from sky, building"):
        SamplingConfig(class_overlays="sky,cloud")
