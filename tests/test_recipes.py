"""Every shipped recipe loads, is valid, and resolves to known settings.

`tests/golden/recipes` holds the defaults (`defaults.json`), what each model preset changes in them
(`presets/`), and what each recipe changes in the defaults of its preset.  A new setting with a
default therefore changes `defaults.json` only.  To accept a change, run
`UPDATE_GOLDEN=1 pytest tests/test_recipes.py`.
"""

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import PRESETS
from ditfuse_jax.resources import resource
from ditfuse_jax.train import default_config, load_recipe, resolve
from ditfuse_jax.train import recipe as recipe_module
from ditfuse_jax.train.recipe import shared_mixture, to_json

RECIPES = sorted(path.stem for path in resource("configs").glob("[!_]*.py"))
GOLDEN = Path(__file__).parent / "golden" / "recipes"
REMOVED = "(removed)"
BASE_PRESET = "nano"


def plain(config: Any) -> dict[str, Any]:
    """Returns a config as it is stored with a run."""
    return json.loads(to_json(config))


def difference(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of nested dicts that differ from the defaults."""
    changed: dict[str, Any] = dict.fromkeys(sorted(set(defaults) - set(values)), REMOVED)
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            value = difference(value, default)
            if value:
                changed[key] = value
        elif key not in defaults or value != default:
            changed[key] = value
    return changed


def recipe_difference(name: str) -> dict[str, Any]:
    config = load_recipe(name)
    resolve(config)
    preset = config.model.preset
    return {"preset": preset} | difference(plain(config), plain(default_config(preset)))


def preset_difference(preset: str) -> dict[str, Any]:
    return difference(plain(default_config(preset)), plain(default_config(BASE_PRESET)))


def check_golden(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_the_defaults_are_known():
    check_golden(GOLDEN / "defaults.json", plain(default_config(BASE_PRESET)))


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {BASE_PRESET}))
def test_what_a_preset_changes_is_known(preset):
    check_golden(GOLDEN / "presets" / f"{preset}.json", preset_difference(preset))


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_changes_is_known(name):
    check_golden(GOLDEN / f"{name}.json", recipe_difference(name))


def test_a_new_optional_setting_changes_only_the_defaults(monkeypatch):
    before = {name: recipe_difference(name) for name in RECIPES}
    presets = {preset: preset_difference(preset) for preset in PRESETS}
    fixed = recipe_module.default_config

    def with_new_setting(model_preset: str) -> Any:
        config = fixed(model_preset)
        config.train.new_setting = 3
        return config

    for module in (recipe_module, sys.modules[__name__]):
        monkeypatch.setattr(module, "default_config", with_new_setting)
    assert default_config("nano").train.new_setting == 3
    assert {preset: preset_difference(preset) for preset in PRESETS} == presets
    for name in RECIPES:
        assert difference(
            plain(load_recipe(name)), plain(default_config(before[name]["preset"]))
        ) == {key: value for key, value in before[name].items() if key != "preset"}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_docstring_has_the_command_its_time_and_its_result(name):
    text = docstring(resource("configs", f"{name}.py"))
    assert re.search(rf"ditfuse (train|distill \S+) --config {name}\b", text)
    assert "Time and result: not measured." in text or ("Time: " in text and "Result: " in text)


@pytest.mark.parametrize(
    "path", sorted(resource("configs", "sweeps").glob("[!_]*.py")), ids=lambda path: path.stem
)
def test_a_sweep_s_docstring_has_the_command_its_time_and_its_result(path):
    text = docstring(path)
    assert f"ditfuse sweep {path.stem}" in text
    assert "Time and result: not measured." in text or ("Time: " in text and "Result: " in text)


def test_there_is_no_golden_text_without_its_recipe():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted([*RECIPES, "defaults"])


def test_a_recipe_is_locked():
    config = load_recipe("nano_m3")
    with pytest.raises(AttributeError):
        config.train.stpes = 3


def test_overrides_keep_the_type_and_the_last_one_counts():
    arguments = [
        "--config.train.steps=7",
        "--config.data.crop=(32, 48)",
        "--config.data.crop=(64, 32)",
    ]
    config = load_recipe("nano_m3", [*arguments, "--config.optimizer.learning_rate=1"])
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


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("datta", r"config: unknown key 'datta'; known: .*data, distill, evaluations"),
        (
            "data.bucketss",
            r"data: unknown key 'bucketss'; known: .*cache_gib, condition_dropout",
        ),
        ("flow.weigthing", r"flow: unknown key 'weigthing'; known: draws, .*weighting"),
        ("lora.rnak", r"lora: unknown key 'rnak'; known: .*rank"),
        ("data.mixture.photos.wieght", r"data\.mixture\.photos: unknown key 'wieght'; known: .*w"),
        ("model.num_layer", r"model: unknown key 'num_layer'; known: .*num_layers"),
        ("optimizer.knid", r"optimizer: unknown key 'knid'; known: .*kind"),
        ("train.stpes", r"train: unknown key 'stpes'; known: steps"),
        ("sample.stpes", r"sample\.stpes is unknown; known keys: steps"),
        ("mesh.dat", r"mesh: unknown key 'dat'; known: .*data"),
    ],
)
def test_a_misspelled_key_of_a_recipe_is_refused_with_the_known_keys(tmp_path, key, message):
    (tmp_path / "mine.py").write_text(
        "from ditfuse_jax.train import default_config\n"
        "def get_config(arg=''):\n"
        "    config = default_config('nano')\n"
        f"    config.{key} = 1\n"
        "    return config\n"
    )
    with pytest.raises(UserError, match=message):
        resolve(load_recipe(str(tmp_path / "mine.py")))


def test_a_recipe_loads_the_extension_that_registers_its_preset(tmp_path):
    (tmp_path / "femto.py").write_text(
        "import dataclasses\n"
        "from ditfuse_jax.model import PRESETS\n"
        "@PRESETS.register('femto')\n"
        "def femto():\n"
        "    return dataclasses.replace(PRESETS['nano'](), preset='femto', num_layers=1)\n"
    )
    (tmp_path / "recipe.py").write_text(
        "from pathlib import Path\n"
        "from ditfuse_jax.train import default_config\n"
        "def get_config(arg=''):\n"
        "    return default_config('femto', imports=[Path(__file__).with_name('femto.py')])\n"
    )
    try:
        config = load_recipe(str(tmp_path / "recipe.py"))
    finally:
        PRESETS._entries.pop("femto", None)
        sys.modules.pop("ditfuse_extension_femto", None)
    assert config.model.num_layers == 1
    assert config.imports == (str(tmp_path / "femto.py"),)


class TestSharedMixture:
    """Every source has its share of the weight of each task."""

    def test_folders_of_one_name_each_have_a_component(self):
        mixture = shared_mixture((["/a/photos", "/b/photos"], {"m3": 1.0, "mff": 3.0}))
        assert {key: (part["source"], part["weight"]) for key, part in mixture.items()} == {
            "photos_m3": ("/a/photos", 0.5),
            "b_photos_m3": ("/b/photos", 0.5),
            "photos_mff": ("/a/photos", 1.5),
            "b_photos_mff": ("/b/photos", 1.5),
        }

    def test_so_do_folders_of_one_name_in_two_groups(self):
        mixture = shared_mixture((["/a/x"], {"m3": 1.0}), (["/b/x"], {"m3": 2.0}))
        assert [part["weight"] for part in mixture.values()] == [1.0, 2.0]

    @pytest.mark.parametrize("other", ["/a/photos", "/other/a/photos"])
    def test_what_cannot_be_told_apart_is_refused(self, other):
        sources = ["/b/photos", "/a/photos", other]
        with pytest.raises(UserError, match=r"two .* called a_photos_m3, those of /a/photos and"):
            shared_mixture((sources, {"m3": 1.0}))


def test_a_size_of_other_things_than_whole_numbers_is_refused():
    config = load_recipe("nano_m3").unlock()
    for size in (("a", 128), (128.0, 128), (True, 128)):
        config.data.crop = size
        with pytest.raises(UserError, match=r"data\.crop must be two whole numbers, not \("):
            resolve(config)
