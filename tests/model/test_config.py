"""Presets, and the validation of model configs."""

import dataclasses
import math

import jax
import pytest
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import PRESETS, DiTFuse, ModelConfig, preset
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.flops import forward_flops
from ditfuse_jax.model.heads import HEADS
from ditfuse_jax.model.heads.linear import LinearHead
from ditfuse_jax.model.logical_axes import axes_of, parameter
from ditfuse_jax.model.remat import REMAT_POLICIES, RematPolicy
from ditfuse_jax.parallel import RULES


@pytest.fixture(scope="module")
def abstract():
    """Preset name -> abstract parameters."""
    return {
        name: nnx.to_flat_state(
            nnx.state(nnx.eval_shape(lambda n=name: DiTFuse(preset(n), rngs=nnx.Rngs(0))))
        )
        for name in PRESETS
    }


def test_omnigen_has_the_published_number_of_parameters(abstract):
    """Phi-3-mini's 3.82e9 (arXiv 2404.14219) without its output embedding, plus patch embedders."""
    count = sum(math.prod(variable.shape) for _, variable in abstract["omnigen"])
    assert count == pytest.approx(3.76e9, rel=0.01)


def test_every_preset_stores_its_name_and_they_are_sorted_by_size(abstract):
    assert [preset(name).preset for name in PRESETS] == list(PRESETS)
    counts = [sum(math.prod(v.shape) for _, v in abstract[name]) for name in PRESETS]
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", PRESETS)
def test_every_dimension_of_every_parameter_has_a_sharding_rule_or_no_name(abstract, name):
    for path, variable in abstract[name]:
        axes = axes_of(variable)
        assert len(axes) == len(variable.shape), path
        assert {axis for axis in axes if axis is not None} <= set(RULES), path
        assert (axes[0] == "layers") == ("layers" in path), path


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_is_float32_for_every_computation_type(abstract, name):
    assert {variable.dtype.name for _, variable in abstract[name]} == {"float32"}


def test_an_unknown_preset_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"'tiny'.*nano.*omnigen"):
        preset("tiny")


def test_a_config_survives_conversion_to_plain_values():
    config = dataclasses.replace(preset("nano"), rope_theta=500.0)
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in config.to_dict().items()}
    assert ModelConfig.from_dict(plain) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", 100),
        ("hidden_size", 94),
        ("num_layers", 0),
        ("num_heads", 0),
        ("num_heads", 5),
        ("num_kv_heads", 3),
        ("num_kv_heads", 0),
        ("intermediate_size", 0),
        ("vocab_size", 0),
        ("patch_size", 0),
        ("channels", 0),
        ("latent_downsampling", 0),
        ("max_images", 0),
        ("max_images", 5),
        ("text_slots", (1, 2)),
        ("text_slots", (8, 0, 8)),
        ("prediction", "noise"),
        ("head", "unet"),
        ("head", "blend"),
        ("dtype", "float16"),
        ("attention", "cudn"),
        ("remat", "ful"),
        ("rope_short_factor", (1.0,) * 5),
        ("rope_short_factor", (1.0,) * 12),
        ("rope_long_factor", (1.0,) * 12),
    ],
)
def test_an_invalid_value_is_refused_naming_its_key(key, value):
    config = preset("omnigen")
    config = dataclasses.replace(config, hidden_size=96, num_heads=4, num_kv_heads=4)
    with pytest.raises(UserError, match=rf"model\.{key}\b"):
        dataclasses.replace(config, **{key: value})


def test_an_unknown_key_is_refused_naming_it():
    with pytest.raises(UserError, match="hidden_sise"):
        ModelConfig.from_dict(preset("nano").to_dict() | {"hidden_sise": 8})


def test_a_missing_key_is_refused_naming_it():
    values = preset("nano").to_dict()
    del values["num_layers"]
    with pytest.raises(UserError, match="num_layers"):
        ModelConfig.from_dict(values)


def test_a_parameter_needs_one_name_per_dimension():
    with pytest.raises(ValueError, match="1 axis names"):
        parameter(jax.numpy.zeros((2, 3)), "embed")


def test_presets_of_other_modules_can_be_registered(monkeypatch):
    monkeypatch.setattr(PRESETS, "_entries", dict(PRESETS._entries))

    @PRESETS.register("tiny")
    def tiny() -> ModelConfig:
        return dataclasses.replace(preset("nano"), preset="tiny", num_layers=1)

    assert preset("tiny").num_layers == 1


@pytest.mark.medium
def test_heads_attention_and_remat_policies_of_other_modules_can_be_registered(models, monkeypatch):
    for registry in (HEADS, IMPLEMENTATIONS, REMAT_POLICIES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @HEADS.register("negative")
    class NegativeHead(LinearHead):
        def __call__(self, *args):
            return -super().__call__(*args)

    IMPLEMENTATIONS.register("zeros", lambda q, k, v, mask, key_valid: jax.numpy.zeros_like(q))
    REMAT_POLICIES.register("everything", RematPolicy(None, None))
    linear = dataclasses.replace(models.LATENT, attention="zeros", remat="everything")
    negative = dataclasses.replace(linear, head="negative")
    inputs = models.condition(linear), *models.targets(linear)
    outputs = [models.build(config)(*inputs) for config in (linear, negative)]
    assert (outputs[0] == -outputs[1]).all() and outputs[0].any()
    sizes = {"num_text": 10, "num_images": 2, "patches": 6}
    assert forward_flops(negative, **sizes) == forward_flops(linear, **sizes)


def test_a_head_can_refuse_a_config(monkeypatch):
    monkeypatch.setattr(HEADS, "_entries", dict(HEADS._entries))

    @HEADS.register("wide")
    class WideHead(LinearHead):
        @classmethod
        def check(cls, config):
            if config.hidden_size < 1000:
                raise UserError("model.head 'wide' needs model.hidden_size of at least 1000")

    with pytest.raises(UserError, match="'wide' needs"):
        dataclasses.replace(preset("nano"), head="wide")


def test_a_preset_under_the_name_of_another_is_refused(monkeypatch):
    monkeypatch.setitem(PRESETS._entries, "femto", PRESETS["nano"])
    message = "preset 'femto' returns .* preset='nano': give it preset='femto'"
    with pytest.raises(UserError, match=message):
        preset("femto")
