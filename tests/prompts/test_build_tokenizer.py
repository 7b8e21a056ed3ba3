import importlib.util
import json

import pytest

from ditfuse_jax.resources import resource


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location(
        "build_tokenizer", resource("data", "build_tokenizer.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_tokenizer_is_what_the_recipe_builds(recipe):
    """From the corpus, with the special tokens that were added since appended."""
    trained = recipe.train(recipe.first_special_tokens(recipe.shipped()))
    for name, text in recipe.build(trained).items():
        shipped = resource("prompts", "assets", name).read_text(encoding="utf-8")
        assert json.loads(shipped) == json.loads(text), f"run data/build_tokenizer.py: {name}"


def test_the_vocabulary_is_special_tokens_then_all_bytes_then_merges(recipe):
    special = recipe.first_special_tokens(recipe.shipped())
    model = json.loads(recipe.train(special).to_str())["model"]
    num_merges = len(model["merges"])
    assert len(model["vocab"]) == len(special) + 256 + num_merges <= recipe.VOCABULARY_SIZE
    assert num_merges > 500


def test_the_files_are_written_atomically_without_temporary_files(recipe, tmp_path):
    recipe.write(recipe.build(), tmp_path)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == recipe.build()
