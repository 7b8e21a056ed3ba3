"""The descriptions of all data sets, pinned in a golden text: a changed fact shows.

To accept a change, run `UPDATE_GOLDEN=1 pytest tests/pipeline/datasets/test_facts.py`.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from ditfuse_jax.pipeline.datasets import DATASETS
from ditfuse_jax.pipeline.datasets.camvid import CAMVID

GOLDEN = Path(__file__).parents[2] / "golden" / "datasets.json"


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.__name__ if callable(value) else value


def test_a_changed_fact_of_a_data_set_shows():
    facts = {name: plain(dataclasses.asdict(dataset)) for name, dataset in DATASETS.items()}
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("frame", "split"),
    [
        ("0016E5_07957", "train"),
        ("0016E5_07959", "val"),
        ("0016E5_07960", "train"),
        ("0016E5_08159", "val"),
        ("0016E5_08161", "train"),
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("Seq05VD_f00000", "test"),
        ("0006R0_f00930", "train"),
    ],
)
def test_frames_of_camvid_belong_to_the_splits_of_segnet(frame, split):
    (split_of,) = [layout.split_of for layout in CAMVID.layouts if layout.split_of]
    assert split_of(frame) == split
