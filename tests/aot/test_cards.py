"""Whether a program fits a GPU that is not there."""

import jax
import pytest

from ditfuse_jax.aot import CompileConfig, Topology, compile, compile_for_card
from ditfuse_jax.cli import main
from ditfuse_jax.cli.compile import card_line
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.accelerators import GPUS

TINY = ("--config.sample.steps=2", "--config.model.num_layers=2", "--config.sample.tile=0")


def sampled(card, preset, quantize, folder, overrides=()):
    """Returns the report of the sampler of one pair."""
    config = CompileConfig(preset, "sample", quantize=quantize, overrides=overrides)
    reports = compile_for_card(config, card, low_effort=True, folder=folder)
    return next(report for report in reports if report.program == "sample"), reports


def test_an_unknown_card_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'gtx970' is unknown; choose from l4, .*rtx4090"):
        compile_for_card(CompileConfig("nano", "sample"), "gtx970")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "l4", "--topology", "v6e:2x4"], "give --topology, like v6e:16x16, or"),
        (["--device", "l4", "--slices", "2"], "--slices has no effect with --device"),
        (["--device", "l4", "--quantize", "nf4"], "quantised weights do not train: give --lora"),
        (["--device", "l4", "--lora", "--quantize", "int3"], "choose from int8, nf4"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(words, message, capsys):
    if "--quantize" in words:
        pytest.importorskip("libtpu", reason="the TPU compiler (libtpu) is not installed")
    assert main(["compile", "--preset", "nano", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "batch"),
    [
        (CompileConfig("nano"), 1),
        (CompileConfig("", config="omnigen_lora"), 8),
        (CompileConfig("", config="omnigen_lora", overrides=("--config.train.accumulation=4",)), 4),
        (CompileConfig("", config="omnigen_lora", batch_size=16), 16),
        (CompileConfig("", "sample", config="omnigen_lora"), 1),
    ],
)
def test_a_card_has_one_example_at_a_time_unless_told(config, batch, monkeypatch):
    found = []
    monkeypatch.setattr(Topology, "devices", lambda _: [None])
    monkeypatch.setattr(compile, "compile_on", lambda config, *_, **__: found.append(config) or [])
    compile_for_card(config, "l4")
    recipe = found[0].recipe(1, 1)
    assert recipe.data.batch_size == batch
    if config.program == "train":
        assert batch % recipe.step.accumulation == 0


def test_a_recipe_of_adapters_over_quantised_kernels_is_sampled_with_them(monkeypatch):
    found = []

    def sampling_programs(recipe, partitioner, quantize):
        found.append(quantize)
        return []

    monkeypatch.setattr(compile, "sampling_programs", sampling_programs)
    overrides = ("--config.lora.quantize=nf4",)
    config = CompileConfig("", "sample", batch_size=1, config="omnigen_lora", overrides=overrides)
    compile.compile_on(config, jax.devices()[:1], GPUS["l4"], "l4")
    assert found == ["nf4"]


@pytest.mark.slow
def test_the_report_names_the_card_its_memory_and_what_was_compiled(tmp_path):
    pytest.importorskip("libtpu", reason="the TPU compiler (libtpu) is not installed")
    plain, _ = sampled("l4", "nano", None, tmp_path, TINY)
    small, reports = sampled("l4", "nano", "nf4", tmp_path, TINY)
    assert small.facts["topology"] == "l4, compiled for v5p:1x1x1"
    assert small.facts["quantize"] == "nf4"
    assert small.hbm_bytes == GPUS["l4"].hbm_bytes == 24e9
    assert small.bytes["argument"] < plain.bytes["argument"]
    line = card_line("l4", reports)
    assert line.startswith("l4: fits; most memory: sample, ")
    assert line.endswith("for v5p:1x1x1, which takes the GPU's place: an estimate")


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "at_most"), [("int8", 7.0), ("nf4", 4.5)])
def test_omnigen_fuses_a_pair_of_512_pixels_in_this_many_gib(quantize, at_most, tmp_path):
    pytest.importorskip("libtpu", reason="the TPU compiler (libtpu) is not installed")
    report, _ = sampled("l4", "omnigen", quantize, tmp_path)
    assert report.bytes["argument"] + report.bytes["temp"] <= at_most * 2**30
