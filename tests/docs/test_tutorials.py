"""The files that tutorials and recipes show work as they are written there."""

import re

import numpy as np
import pytest

from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.images.decode import read_image
from ditfuse_jax.sweep.definition import load_sweep
from ditfuse_jax.tasks import make_task
from ditfuse_jax.train import load_recipe
from docs.build_site import DOCS


def shown(page: str, number: int = 0) -> str:
    """Returns a Python block of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number]


def test_the_task_of_the_tutorial_makes_examples(tmp_path):
    file = tmp_path / "night.py"
    file.write_text(shown("tutorials/your_task.md"), encoding="utf-8")
    load_extensions([str(file)])
    photograph = np.full((64, 64, 3), 120, np.uint8)
    example = make_task("night:noise=40")((photograph,), np.random.default_rng(0), (32, 32))
    dark, noisy = example.sources
    assert dark.shape == noisy.shape == example.target.shape == (32, 32, 3)
    assert dark.mean() == 20
    assert 30 < noisy.std() < 50


def test_the_recipe_of_the_tutorial_is_complete(tmp_path):
    file = tmp_path / "my_pairs.py"
    file.write_text(shown("tutorials/your_folder.md"), encoding="utf-8")
    config = load_recipe(f"{file}:pairs")
    assert config.data.mixture.pairs.source == "pairs/train"
    assert config.evaluations.held_out.source == "pairs/test"


def test_the_sweep_of_the_tutorial_is_complete(tmp_path):
    file = tmp_path / "my_sweep.py"
    file.write_text(shown("tutorials/ablation.md"), encoding="utf-8")
    assert len(load_sweep(str(file)).items()) == 3


@pytest.mark.parametrize(("page", "number"), [("start/first_fusion.md", 0), ("how_to/data.md", 0)])
def test_the_code_of_a_page_runs(page, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(shown(page, number), scope)
    if "photograph" in scope:
        near, far = read_image(tmp_path / "near.png"), read_image(tmp_path / "far.png")
        assert near.shape == far.shape == scope["photograph"].shape
        assert (near != far).any()
    else:
        assert scope["example"].target.shape == (128, 128, 3)
