"""The tokenizer that is read without transformers."""

import json
import shutil
import subprocess
import sys

import pytest
from transformers import PreTrainedTokenizerFast

from ditfuse_jax.prompts.core_sentences import core_sentences
from ditfuse_jax.prompts.fast_tokenizer import read_fast_tokenizer
from ditfuse_jax.prompts.tokenizer import load_tokenizer, tokenizer_folder


@pytest.fixture(scope="module")
def reference() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder(), local_files_only=True)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(tokenizer_folder(), tmp_path / "tokenizer")


def _set(folder, **settings):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | settings), encoding="utf-8")


@pytest.mark.parametrize("special", [True, False])
def test_sentences_have_the_ids_that_transformers_gives_them(reference, special):
    tokenizer = load_tokenizer()
    texts = [text for text, _ in core_sentences()[::20]]
    texts += ["", " ", "<img><|image_1|></img>", "日本語 ünïcödé 🙂", "a\n\n  b\t", "<s>x</s><pad>"]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=special)
        assert ids == reference.encode(text, add_special_tokens=special)
        assert tokenizer.decode(ids) == reference.decode(ids)


def test_its_tokens_are_those_of_transformers(reference):
    tokenizer = load_tokenizer()
    assert len(tokenizer) == len(reference)
    assert tokenizer.get_vocab() == reference.get_vocab()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(tokenizer, name) == getattr(reference, name)
    tokens = ["<s>", "</s>", "<pad>", "the"]
    assert tokenizer.convert_tokens_to_ids(tokens) == reference.convert_tokens_to_ids(tokens)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"add_bos_token": True},
        {"pad_token": "<a token that tokenizer.json lacks>"},
        {"pad_token": "the"},  # no special token
        {"bos_token": {"content": "<s>", "lstrip": True}},
        {"additional_special_tokens": ["<new>"]},
    ],
    ids=str,
)
def test_a_tokenizer_that_transformers_would_change_is_left_to_it(folder, settings):
    assert read_fast_tokenizer(folder) is not None
    _set(folder, **settings)
    assert read_fast_tokenizer(folder) is None


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_so_is_one_with_further_files(folder, name):
    (folder / name).write_text("{}", encoding="utf-8")
    assert read_fast_tokenizer(folder) is None


@pytest.mark.processes
def test_the_bundled_tokenizer_is_read_without_transformers():
    code = (
        "import sys; from ditfuse_jax.prompts import load_tokenizer; load_tokenizer();"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_tokenizer_that_truncates_and_pads_gives_all_ids_and_no_padding(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    content["padding"] = {
        "strategy": {"Fixed": 40},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    text = "make the road a little brighter"
    assert load_tokenizer(folder).encode(text) == load_tokenizer().encode(text)
