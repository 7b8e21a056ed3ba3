"""Weights of another run keep their meaning when that run goes on."""

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.pinned import check_same_weights, with_pinned_addresses
from ditfuse_jax.train.recipe import default_config


@pytest.fixture
def base(tmp_path):
    """A run that saved step 100."""
    folder = tmp_path / "base"
    (folder / "checkpoints/100").mkdir(parents=True)
    return folder


def adapting(weights):
    config = default_config("nano")
    config.weights, config.lora.rank = str(weights), 2
    return with_pinned_addresses(config)


def test_a_run_under_adapters_is_recorded_with_its_step(base):
    recorded = adapting(base).weights
    assert recorded == str(base / "checkpoints/100")
    (base / "checkpoints/200").mkdir()
    assert adapting(recorded).weights == recorded
    assert adapting(base).weights == str(base / "checkpoints/200")


def test_a_recipe_that_starts_from_a_run_names_its_step(tmp_path):
    with Checkpoints(tmp_path / "base") as checkpoints:
        checkpoints.save_config(3, default_config("nano").to_dict())
    config = default_config("nano")
    initialize_from(config, str(tmp_path / "base"))
    assert config.weights == str(tmp_path / "base/checkpoints/3")


def test_adapters_do_not_continue_over_another_step_of_their_base(base, tmp_path):
    old = str(base / "checkpoints/100")
    check_same_weights({"weights": old}, adapting(base), tmp_path)
    (base / "checkpoints/200").mkdir()
    message = f"adapts the weights in {old}, and the base is now {base}/checkpoints/200: .*STEP"
    with pytest.raises(UserError, match=message):
        check_same_weights({"weights": old}, adapting(base), tmp_path)
    with pytest.raises(UserError, match="the base is now"):
        check_same_weights({"weights": "/gone/checkpoints/100"}, adapting(base), tmp_path)


def test_adapters_continue_over_a_base_that_was_moved_or_recorded_without_a_step(base, tmp_path):
    config = adapting(base)
    check_same_weights({"weights": "/gone/base/checkpoints/100"}, config, tmp_path)
    check_same_weights({"weights": str(base)}, config, tmp_path)
    config.lora.rank = 0  # the weights were only the start
    check_same_weights({"weights": "/gone/base/checkpoints/99"}, config, tmp_path)


def test_adapters_do_not_continue_over_another_folder_while_theirs_exists(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    config = adapting(tmp_path / "other")
    with pytest.raises(UserError, match="one, and the base is now"):
        check_same_weights({"weights": str(tmp_path / "one")}, config, tmp_path)
