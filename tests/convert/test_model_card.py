"""Model cards: the header that the Hub reads, the numbers, the licence and the base."""

import dataclasses
import json

import pytest
import yaml

from ditfuse_jax.convert.model_card import model_card
from ditfuse_jax.errors import UserError
from ditfuse_jax.hub import HubAddress
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.weights import open_checkpoint

ADDRESS = HubAddress.parse("hf://me/fusion")
REPORT = {
    "VIF": {"fused": 0.7123456, "mean": None},
    "Qabf": {"fused": 0.5, "mean": 0.25},
    "count": 21,
    "excluded": {"3": "damaged"},
    "run": {"title": "a run", "checkpoint": "run, step 50", "data": "samples:heldout"},
    "images": {"1": {"VIF": {"fused": 0.7}}},
}


@pytest.fixture
def trained(tmp_path):
    """A checkpoint as of a run folder, at update 50."""
    small = open_checkpoint("small")
    config = dict(small.config or {}) | {"weights": ""}
    return dataclasses.replace(
        small, kind="run", path=tmp_path, name="run, step 50", step=50, config=config
    )


def header(card: str) -> dict:
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(text)


def test_the_hub_s_own_library_reads_the_header():
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(open_checkpoint("small"), ADDRESS))
    values = card.data.to_dict()
    assert values["license"] == "other"
    assert values["license_name"] == "ditfuse-weights"
    assert values["license_link"] == "LICENSE"
    assert values["pipeline_tag"] == "image-to-image"
    assert card.text.strip().startswith("# fusion\n")


def test_numbers_are_those_of_the_report_of_this_checkpoint(trained, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    card = model_card(trained, ADDRESS)
    assert "`ditfuse evaluate` on `samples:heldout`, 21 images, 1 excluded:" in card
    assert "| metric | fused | mean |\n| --- | --- | --- |\n| VIF | 0.7123 | – |" in card
    assert "| Qabf | 0.5 | 0.25 |" in card


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("/home/me/photos", "photos"),
        ("dataset:msrs@/data/MSRS.zip", "dataset:msrs@MSRS.zip"),
        ("~/photos", "photos"),
        ("labelled:./a/b", "labelled:b"),
        ("samples:heldout", "samples:heldout"),
    ],
)
def test_data_is_named_without_the_folders_of_this_machine(trained, tmp_path, data, shown):
    report = REPORT | {"run": REPORT["run"] | {"data": data}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert f"on `{shown}`," in model_card(trained, ADDRESS)


def test_numbers_of_another_checkpoint_are_not_written(trained, tmp_path):
    other = REPORT | {"run": REPORT["run"] | {"checkpoint": "run, step 40"}}
    (tmp_path / "report.json").write_text(json.dumps(other))
    assert "None were measured" in model_card(trained, ADDRESS)


def test_a_report_on_existing_images_has_no_numbers_of_the_model(trained, tmp_path):
    files = REPORT | {"run": {"title": "Mine", "sources": "A + B", "fused": "F"}}
    (tmp_path / "report.json").write_text(json.dumps(files))
    assert "None were measured" in model_card(trained, ADDRESS)


def test_numbers_by_the_conventions_of_a_preset_name_it(trained, tmp_path):
    report = REPORT | {"run": REPORT["run"] | {"preset": "vifb"}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert "1 excluded, metrics of the preset `vifb`:" in model_card(trained, ADDRESS)


def test_evaluations_during_training_are_those_of_this_step(trained, tmp_path):
    records = [
        {"step": 40, "eval/PSNR_clean": 11.0},
        {"step": 50, "loss": 0.5},
        {"step": 50, "eval/PSNR_clean": 21.25, "eval/other/SSIM": 0.5},
    ]
    lines = "\n".join(map(json.dumps, records)) + '\n{"step": 50, "eval/trunc'
    (tmp_path / "metrics.jsonl").write_text(lines)
    card = model_card(trained, ADDRESS)
    assert "at update 50:\n\n| scalar | value |" in card
    assert "| PSNR_clean | 21.25 |\n| other/SSIM | 0.5 |" in card
    assert "11" not in card.partition("## Numbers")[2]


def test_without_an_evaluation_no_number_is_invented(trained):
    assert "None were measured with these weights" in model_card(trained, ADDRESS)


def test_what_changed_after_the_measurement_is_said(trained, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    merged = [WeightedAdapter(tmp_path / "lora", 0.5)]
    card = model_card(trained, ADDRESS, merged=merged, dtype="bfloat16", quantize="nf4")
    changes = "the adapter `lora=0.5` merged, parameters in bfloat16, kernels in nf4"
    assert f"Measured before the conversion; {changes} since." in card
    assert f"| converted | {changes} |" in card


def test_a_damaged_report_is_named(trained, tmp_path):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match=r"report\.json is not a report"):
        model_card(trained, ADDRESS)


def test_an_adapter_names_its_base_and_how_to_use_both(hub_server, trained, tmp_path):
    commit = hub_server.add("lab/OmniGen", {"config.json": b"{}"})
    lora = LoRAConfig(8, 8.0, ("qkv_proj", "o_proj"))
    adapter = dataclasses.replace(trained, lora=lora, base=f"hf://lab/OmniGen@{commit}")
    card = model_card(adapter, ADDRESS)
    assert header(card)["base_model"] == "lab/OmniGen"
    assert header(card)["base_model_relation"] == "adapter"
    assert "lora" in header(card)["tags"]
    assert f"--checkpoint hf://lab/OmniGen@{commit} --lora hf://me/fusion " in card
    assert "LoRA of `qkv_proj`, `o_proj`, rank 8, alpha 8" in card
    local = dataclasses.replace(adapter, base=tmp_path / "OmniGen-v1")
    assert "base_model" not in header(model_card(local, ADDRESS))
    assert "| adapts | `OmniGen-v1` |" in model_card(local, ADDRESS)
    assert str(tmp_path) not in model_card(local, ADDRESS)


def test_a_licence_is_only_stated_if_there_is_one(trained, tmp_path):
    assert "license" not in header(model_card(trained, ADDRESS))
    assert "No licence was found" in model_card(trained, ADDRESS)
    (tmp_path / "LICENSE").write_text("You may do what you like.")
    card = model_card(trained, ADDRESS)
    assert header(card)["license_name"] == "see-license"
    assert "See [LICENSE](LICENSE)." in card


def test_a_model_derived_from_the_bundled_one_has_its_licence(trained):
    derived = dataclasses.replace(trained, config=dict(trained.config) | {"weights": "small"})
    assert header(model_card(derived, ADDRESS))["license_name"] == "ditfuse-weights"
