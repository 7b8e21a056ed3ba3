"""`ditfuse evaluate --control` and `--segmentation` with a real, tiny model."""

import json

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, write_image

pytestmark = pytest.mark.medium

FAST = ("--steps", "1", "--batch-size", "7", "--max-side", "32")


@pytest.fixture
def labelled(tmp_path):
    folder = tmp_path / "labelled"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_image(folder / "images" / "scene.png", image)
    coded = np.where(np.arange(32) < 16, 0, 3)[:, None, None].repeat(32, 1).repeat(3, 2)
    write_image(folder / "labels" / "scene.png", coded.astype(np.uint8))
    return folder


def test_control_is_measured_and_drawn(checkpoint, stacks, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--checkpoint", f"{checkpoint}@best", "--data", stacks, "--count", "1", "-o", out]
    assert main(["evaluate", *map(str, options), "--control", *FAST]) == 0
    found = json.loads((out / "control.json").read_text())
    assert found["run"]["checkpoint"] == "tiny, step 2"
    assert set(found["scales"]) == {"brightness", "contrast"}
    assert read_image(out / "control.png").size
    output = capsys.readouterr().out
    assert "LIGHT++" in output
    assert "spread / step" in output
    assert f"{out / 'control.json'} (1 scenes)" in output


def test_segmentation_is_measured_and_drawn(checkpoint, labelled, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--checkpoint", checkpoint, "--data", f"labelled:{labelled}", "-o", out]
    options += ["--segmentation", "--classes", "road, car"]
    assert main(["evaluate", *map(str, options), *FAST]) == 0
    found = json.loads((out / "segmentation.json").read_text())
    assert list(found["classes"]) == ["road", "car"]
    assert 0 <= found["miou"] <= 1
    assert read_image(out / "segmentation.png").size
    assert "false positives" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--control"], "--control needs --checkpoint"),
        (["--classes", "road"], "--classes needs --segmentation"),
        (["--without-tags"], "--without-tags needs --control or --segmentation"),
        (["--control", "--checkpoint", "x", "--a", "y"], "--a cannot be used with --control"),
        (["--segmentation", "--checkpoint", "x", "--classes", "moon"], "class 'moon' is unknown"),
        (["--segmentation", "--checkpoint", "x", "--data", "samples:heldout"], "has no labels"),
        (["--control", "--segmentation"], "not allowed with"),
        (["--control", "--checkpoint", "/no/run"], "no checkpoint in"),
        (["--control", "--checkpoint", "/no/run@best", "-o", "o"], "no checkpoint in /no/run"),
    ],
)
def test_bad_options_are_reported_in_one_line(refused, options, message):
    assert message in refused("evaluate", *options)
