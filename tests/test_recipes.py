"""Every shipped recipe loads, is checked, and its resolved text is known.

A changed default shows as a changed file under `tests/golden/recipes`; to accept it, run
`UPDATE_GOLDEN=1 pytest tests/test_recipes.py`.
"""

import ast
import os
from pathlib import Path

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.resources import resource
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.recipe import to_json

RECIPES = sorted(path.stem for path in resource("configs").glob("[!_]*.py"))
GOLDEN = Path(__file__).parent / "golden" / "recipes"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_resolves_to_its_golden_text(name):
    config = load_recipe(name)
    resolve(config)
    text, golden = to_json(config), GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_tells_the_command_that_runs_it(name):
    docstring = ast.get_docstring(ast.parse(resource("configs", f"{name}.py").read_text()))
    assert f"ditfuse train --config {name}" in (docstring or "")


def test_there_is_no_golden_text_without_its_recipe():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == RECIPES


def test_a_recipe_is_locked():
    config = load_recipe("nano_m3")
    with pytest.raises(AttributeError):
        config.train.stpes = 3


def test_overrides_keep_the_type_and_the_last_one_counts():
    words = ["--config.train.steps=7", "--config.data.crop=(32, 48)", "--config.data.crop=(64, 32)"]
    config = load_recipe("nano_m3", [*words, "--config.optimizer.learning_rate=1"])
    assert config.train.steps == 7
    assert config.data.crop == (64, 32)
    assert isinstance(config.optimizer.learning_rate, float)


def test_a_recipe_file_of_ones_own_gets_its_argument(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ditfuse_jax.train import default_config\n"
        "def get_config(arg=''):\n"
        "    config = default_config('nano')\n"
        "    config.train.steps = int(arg)\n"
        "    return config\n"
    )
    assert load_recipe(f"{tmp_path / 'mine.py'}:12").train.steps == 12
    with pytest.raises(UserError, match=r"mine\.py fails: ValueError"):
        load_recipe(f"{tmp_path / 'mine.py'}:many")
