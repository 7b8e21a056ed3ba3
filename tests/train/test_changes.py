"""What differs between the starts of a run is told."""

import json

from ditfuse_jax.train import load_recipe
from ditfuse_jax.train.changes import (
    changed_settings,
    describe_changes,
    evaluation_settings,
)

SCALAR = "eval/PSNR_clean"


def config(*overrides):
    return load_recipe("nano_m3", [f"--config.{text}" for text in overrides]).to_dict()


def stored(*overrides):
    return json.loads(json.dumps(config(*overrides)))


def test_nothing_differs_after_a_round_trip_through_json():
    assert changed_settings(stored(), config()) == {}
    assert describe_changes({}) == []


def test_settings_of_data_optimiser_and_evaluation_are_told_old_and_new():
    new = config(
        "optimizer.learning_rate=1e-5",
        "data.crop=(64, 64)",
        "data.mixture.photos.task.overlap_fraction=0.5",
        "evaluations.held_out.task=mff",
    )
    assert describe_changes(changed_settings(stored(), new)) == [
        "settings that changed since the last start:",
        "  data.crop: [128, 128] -> [64, 64]",
        "  data.mixture.photos.task.overlap_fraction: (none) -> 0.5",
        '  evaluations.held_out.task: "m3" -> "mff"',
        "  optimizer.learning_rate: 0.002 -> 1e-05",
    ]


def test_keys_that_an_older_config_lacks_or_calls_otherwise_had_their_defaults():
    old = stored()
    del old["data"]["max_bad_fraction"], old["train"]["keep_best"], old["model"]["pooled_prompt"]
    old["sample"]["guidance"] = old["sample"].pop("guidance_scale")
    assert changed_settings(old, config()) == {}
    old["key of another version"] = 1
    assert "key of another version" in changed_settings(old, config())


def test_many_changes_and_long_values_are_cut_with_a_hint():
    changes = {f"key{i}": (1, "x" * 500) for i in range(20)}
    lines = describe_changes(changes)
    assert len(lines) == 14
    assert lines[-1] == "  and 8 more, see the last line of runs.jsonl"
    assert all(len(text) < 120 for text in lines)


def test_only_what_a_scalar_depends_on_makes_its_values_incomparable():
    before = evaluation_settings(stored(), SCALAR)
    for same in (
        "optimizer.learning_rate=1",
        "train.steps=7",
        "evaluations.held_out.every=3",
        "sample.batch_size=2",
        "seed=3",
    ):
        assert evaluation_settings(config(same), SCALAR) == before
    for other in (
        "evaluations.held_out.task=mff",
        "evaluations.held_out.source=elsewhere",
        "evaluations.held_out.count=3",
        "sample.steps=9",
        "data.crop=(64, 64)",
    ):
        assert evaluation_settings(config(other), SCALAR) != before


def test_another_evaluation_of_the_run_does_not_matter():
    run = stored()
    run["evaluations"]["streets"] = {"evaluator": "held_out", "every": 5, "task": "mff"}
    assert evaluation_settings(run, SCALAR) == evaluation_settings(stored(), SCALAR)
    settings = evaluation_settings(run, "eval/streets/PSNR_clean")
    assert settings["evaluations.streets.task"] == "mff"
    assert not any(key.startswith("evaluations.held_out") for key in settings)
