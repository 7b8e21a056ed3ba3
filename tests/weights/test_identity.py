"""The identity of a stored model changes with its weights, and only then."""

import os
from pathlib import Path

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.weights.identity import model_identity


def write(path: Path, data: bytes = b"x", time: int = 1_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time, time))
    return path


def test_a_later_step_of_a_run_is_another_model_and_each_step_stays_itself(tmp_path):
    run = tmp_path / "run"
    write(run / "checkpoints" / "3" / "parameters" / "d")
    first = model_identity(run)
    assert first.startswith("step 3, ") and model_identity(run / "checkpoints" / "3") == first
    write(run / "metrics.jsonl")
    write(run / "checkpoints" / "5.orbax-checkpoint-tmp" / "d")
    assert model_identity(run) == first
    write(run / "checkpoints" / "5" / "parameters" / "d")
    assert model_identity(run).startswith("step 5, ")
    assert model_identity(run / "checkpoints" / "3") == first


def test_a_run_that_was_trained_anew_to_the_same_step_is_another_model(tmp_path):
    file = write(tmp_path / "run" / "checkpoints" / "3" / "parameters" / "d")
    first = model_identity(tmp_path / "run")
    write(file, time=1_001)
    assert model_identity(tmp_path / "run") != first


def test_a_bundle_is_known_by_its_own_files(tmp_path):
    write(tmp_path / "recipe.json")
    weights = write(tmp_path / "model.safetensors")
    first = model_identity(str(tmp_path))
    write(tmp_path / "notes.txt")
    write(tmp_path / "sweep" / "runs" / "a.json")
    assert model_identity(tmp_path) == first
    write(weights, b"longer")
    assert model_identity(tmp_path) != first
    assert model_identity(weights) not in ("", first)


def test_what_does_not_exist_has_no_identity_and_a_run_without_a_step_is_an_error(tmp_path):
    assert model_identity(tmp_path / "nothing") == model_identity(tmp_path) == ""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="no checkpoint in"):
        model_identity(tmp_path / "run")


def test_an_address_on_the_hub_is_known_by_its_commit(hub_server):
    first = hub_server.add("me/m", {"model.safetensors": b"1"})
    assert model_identity("hf://me/m") == f"hf://me/m@{first}"
    hub_server.forget()
    second = hub_server.add("me/m", {"model.safetensors": b"2"})
    assert model_identity("hf://me/m") == f"hf://me/m@{second}"
