"""Configs of older checkpoints, with keys that were renamed since."""

from typing import Any

import pytest

from ditfuse_jax.config_names import RENAMED, with_current_names
from ditfuse_jax.errors import UserError
from ditfuse_jax.train.recipe import default_config
from ditfuse_jax.train.settings import resolve


def pop(config: dict[str, Any], name: str) -> Any:
    """Removes a nested key, and sections that are empty then, and returns its value."""
    section, _, rest = name.partition(".")
    if not rest:
        return config.pop(section)
    value = pop(config[section], rest)
    if not config[section]:
        del config[section]
    return value


def put(config: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[key] = value


@pytest.fixture
def old_config():
    """The default config under the oldest names of its keys."""
    config = default_config("nano").to_dict()
    for old, new in RENAMED.items():
        put(config, old, pop(config, new))
    return config


def test_every_new_name_is_a_key_of_the_default_config():
    config = default_config("nano").to_dict()
    for new in RENAMED.values():
        pop(config, new)


def test_a_config_with_old_names_is_converted_to_current_names(old_config):
    assert old_config != default_config("nano").to_dict()
    assert with_current_names(old_config) == default_config("nano").to_dict()


def test_a_config_with_old_names_resolves_to_the_same_recipe(old_config):
    assert resolve(old_config) == resolve(default_config("nano"))


@pytest.mark.parametrize("old", RENAMED)
def test_a_recipe_that_sets_a_renamed_key_is_refused_by_both_names(old):
    config = default_config("nano").to_dict()
    put(config, old, 1)
    with pytest.raises(UserError, match=f"^config.{old} is now config.{RENAMED[old]}: rename it$"):
        resolve(config)
