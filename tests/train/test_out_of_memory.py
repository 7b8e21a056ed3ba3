"""A run whose devices are out of memory ends with what takes it and what would help."""

import jax
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train import compile as train_compile
from ditfuse_jax.train import train

pytestmark = pytest.mark.medium

COMPILER = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory \
space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.

  1. Size: 6.00G
     Operator: op_name="jit(step)/dot_general"
     Shape: f32[3,1024]{1,0:T(8,128)}
"""
DEVICE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9876543210 bytes."


def refused(config, folder) -> str:
    with pytest.raises(UserError) as caught:
        train(config, folder, evaluations=(), quiet=True)
    text = str(caught.value)
    assert "\n" not in text
    report = (folder / "out_of_memory.txt").read_text()
    assert "RESOURCE_EXHAUSTED" in report and str(folder / "out_of_memory.txt") in text
    return text


def in_order(text: str, *parts: str) -> bool:
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_a_step_that_does_not_compile_names_allocations_and_settings(tiny, tmp_path, monkeypatch):
    def refuse(lowered, **options):
        raise jax.errors.JaxRuntimeError(COMPILER)

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    text = refused(tiny(), tmp_path)
    assert "20.50 GiB of 15.75 GiB" in text
    assert in_order(text, "f32[3,1024] of jit(step)/dot_general 6.00 GiB", "moments", "parameters")
    assert in_order(text, "what takes less", "batch_size=4", "accumulation=2", "ema_decay=0")


@pytest.mark.parametrize("when", ["called", "waited for"])
def test_a_step_that_fails_on_the_device_is_explained_too(tiny, tmp_path, monkeypatch, when):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError(DEVICE)

    if when == "called":
        compile_step = train_compile.CompiledSteps._compile
        monkeypatch.setattr(
            train_compile.CompiledSteps, "_compile", lambda *a: (compile_step(*a), fail)[1]
        )
    else:
        monkeypatch.setattr("ditfuse_jax.train.recorder.jax.device_get", fail)
    text = refused(tiny("--config.train.steps=3"), tmp_path)
    assert "the training step alone needs" in text
    assert in_order(text, "the largest", "moments", "what takes less")


def test_a_state_that_does_not_fit_is_explained_before_there_is_a_step(tiny, tmp_path, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError(DEVICE)

    monkeypatch.setattr("ditfuse_jax.train.setup.create_state", fail)
    text = refused(tiny(), tmp_path)
    assert "before the first step" in text and "mesh.fsdp" in text


def test_other_errors_of_the_devices_are_raised_unchanged(tiny, tmp_path, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr("ditfuse_jax.train.setup.create_state", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(tiny(), tmp_path, evaluations=(), quiet=True)
    assert not (tmp_path / "out_of_memory.txt").exists()
