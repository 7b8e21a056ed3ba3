"""The identity of a tokenizer: which changes keep the ids that a model was trained with."""

import json
import shutil

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.fingerprint import check_tokenizer, tokenizer_fingerprint
from ditfuse_jax.prompts.tokenizer import tokenizer_folder

SIZE = 10**6


@pytest.fixture
def changed(tmp_path):
    """Copies the shipped tokenizer and changes its JSON."""

    def make(change):
        folder = tmp_path / "tokenizer"
        shutil.copytree(tokenizer_folder(None), folder)
        path = folder / "tokenizer.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        change(stored)
        path.write_text(json.dumps(stored), encoding="utf-8")
        return folder

    return make


def append(stored):
    token = dict(stored["added_tokens"][-1])
    ids = [*stored["model"]["vocab"].values(), *(t["id"] for t in stored["added_tokens"])]
    stored["added_tokens"].append(token | {"id": max(ids) + 1, "content": "<APPENDED>"})


def rename_a_special_token(stored):
    token = stored["added_tokens"][5]
    stored["model"]["vocab"].pop(token["content"], None)
    token["content"] = "<|renamed|>"


def swap_two_ids(stored):
    vocabulary = stored["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def swap_two_merges(stored):
    merges = stored["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def add_a_special_token_inside(stored):
    vocabulary = stored["model"]["vocab"]
    text = max(vocabulary, key=vocabulary.get)
    token = dict(stored["added_tokens"][-1])
    stored["added_tokens"].append(token | {"id": vocabulary[text], "content": text})


def add_a_normalizer(stored):
    stored["normalizer"] = {"type": "Lowercase"}


def add_a_space_before_text(stored):
    stored["pre_tokenizer"]["add_prefix_space"] = True


def remove_the_first_token(stored):
    stored["post_processor"] = None


def test_a_fingerprint_is_the_number_of_ids_and_a_digest():
    count, digest = tokenizer_fingerprint().split(":")
    stored = json.loads((tokenizer_folder(None) / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {*stored["model"]["vocab"].values(), *(t["id"] for t in stored["added_tokens"])}
    assert int(count) == max(ids) + 1
    assert len(digest) == 64


def test_the_tokenizer_a_model_was_trained_with_passes_as_does_an_unknown_one():
    check_tokenizer(None, tokenizer_fingerprint(), SIZE, "model")
    check_tokenizer(None, None, SIZE, "model")


def test_a_tokenizer_with_appended_tokens_passes(changed):
    folder = changed(append)
    assert tokenizer_fingerprint(folder) != tokenizer_fingerprint()
    check_tokenizer(folder, tokenizer_fingerprint(), SIZE, "model")


@pytest.mark.parametrize(
    "change",
    [
        rename_a_special_token,
        swap_two_ids,
        swap_two_merges,
        add_a_special_token_inside,
        add_a_normalizer,
        add_a_space_before_text,
        remove_the_first_token,
    ],
)
def test_a_tokenizer_that_encodes_otherwise_is_refused(change, changed):
    count = tokenizer_fingerprint().partition(":")[0]
    message = f"my model was trained with another tokenizer .* its {count} tokens, or how"
    with pytest.raises(UserError, match=message):
        check_tokenizer(changed(change), tokenizer_fingerprint(), SIZE, "my model")


def test_fewer_tokens_than_the_model_was_trained_with_are_refused(changed):
    longer = tokenizer_fingerprint(changed(append))
    with pytest.raises(UserError, match="another tokenizer"):
        check_tokenizer(None, longer, SIZE, "model")


def test_a_damaged_fingerprint_is_refused():
    with pytest.raises(UserError, match="model has a damaged tokenizer fingerprint 'x:1'"):
        check_tokenizer(None, "x:1", SIZE, "model")


def test_a_vocabulary_that_is_too_small_is_refused():
    count = int(tokenizer_fingerprint().partition(":")[0])
    check_tokenizer(None, None, count, "model")
    with pytest.raises(UserError, match=f"vocab_size {count - 1} is too small for the {count} "):
        check_tokenizer(None, None, count - 1, "model")
