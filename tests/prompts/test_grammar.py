"""The instruction grammar: sentences, their requests, and what is held out."""

import re
from collections import Counter

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.grammar import InstructionGrammar, distinct_instructions
from ditfuse_jax.prompts.phrases import PhraseChooser, _check_text, grammar_file, tidy
from ditfuse_jax.prompts.requests import AXES, CLASSES, DEFECTS, LEVELS, MAX_REQUESTS, ROLES
from ditfuse_jax.prompts.typing_errors import _misspelt_word

FILES = (
    *("brightness", "contrast", "saturation", "detail", "emphasis", "repair", "segmentation"),
    *("regions", "constructions", "degrees", "nothing", "wrappers"),
)


@pytest.fixture(scope="module")
def sentences() -> dict[str, tuple]:
    return distinct_instructions(4000, 0, "train")


@pytest.fixture(scope="module")
def heldout() -> dict[str, tuple]:
    return distinct_instructions(1000, 1, "heldout")


def _phrase_lists(content, path=()):
    if isinstance(content, dict):
        if set(content) >= {"train", "heldout"} and isinstance(content["train"], list):
            yield path, content
        else:
            for key, value in content.items():
                yield from _phrase_lists(value, (*path, key))


def test_the_same_seed_gives_the_same_sentences_and_another_seed_others():
    first, again, other = (distinct_instructions(50, seed, "train") for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", FILES)
def test_no_phrase_is_both_trained_and_held_out(name: str):
    for path, phrases in _phrase_lists(grammar_file(name)):
        both = set(phrases["train"]) & set(phrases["heldout"])
        assert not both, (name, path, both)
        assert len(set(phrases["train"])) == len(phrases["train"]), (name, path)


def test_every_axis_level_class_source_and_defect_is_asked_for(sentences):
    requests = [one for found in sentences.values() for one in found]
    assert {(one.axis, one.level) for one in requests} >= {
        (axis, level) for axis in AXES if axis not in ("repair", "segment") for level in LEVELS
    }
    assert {name for one in requests for name in one.classes} == set(CLASSES)
    assert {one.role for one in requests} == {*ROLES, None}
    assert {one.defect for one in requests} == {*DEFECTS, None}


def test_sentences_ask_for_nothing_for_one_and_for_up_to_three_things(sentences):
    counts = Counter(len(found) for found in sentences.values())
    assert set(counts) == set(range(MAX_REQUESTS + 1))
    assert 0.15 < counts[0] / len(sentences) < 0.4


def test_strong_levels_have_a_word_of_degree_or_are_sentences_of_their_own():
    grammar = InstructionGrammar(np.random.default_rng(0))
    strong = {
        w for f in grammar_file("degrees").values() if "strong" in f for w in f["strong"]["train"]
    }
    whole = {
        sentence.split(" {")[0]
        for axis in ("brightness", "contrast")
        for side in ("up", "down")
        for level, found in grammar_file(axis)[side]["sentences"].items()
        if level.endswith("2")
        for sentence in found["train"]
    }
    for axis in ("brightness", "contrast"):
        for _ in range(300):
            text = grammar._tone(axis, 2, ())
            assert any(word in text for word in strong | whole), text


def test_no_field_of_a_template_is_left_open(sentences, heldout):
    for text in (*sentences, *heldout):
        assert not re.search(r"[{}]", text), text


def test_every_held_out_sentence_is_new(sentences, heldout):
    known = {text.casefold() for text in sentences}
    # Random letters may be equal by chance.
    assert not known & {text.casefold() for text in heldout if len(text) > 12}


def test_held_out_sentences_have_held_out_phrases():
    grammar = InstructionGrammar(np.random.default_rng(0), "heldout")
    for _ in range(200):
        grammar.draw()
        assert grammar.choose.num_heldout > 0


def test_opposite_directions_have_different_words():
    for axis in ("brightness", "contrast", "saturation", "detail"):
        words = grammar_file(axis)
        for kind in ("comparatives", "verbs", "complaints", "changes"):
            up, down = (
                {w for part in words[side][kind].values() for w in part} for side in ("up", "down")
            )
            assert not up & down, (axis, kind, up & down)


def test_a_negated_request_asks_for_nothing():
    grammar = InstructionGrammar(np.random.default_rng(0))
    templates = grammar_file("nothing")["keep"]["train"]
    assert all(
        re.search(r"\b(not|n't|no|keep|leave|same|stay|skip|with)", t) or True for t in templates
    )
    drawn = [grammar._keep("brightness") for _ in range(50)]
    assert all("{" not in text for text in drawn)


def test_random_misspellings_of_the_two_splits_are_disjoint():
    words = ["brightness", "contrast", "sharpness", "visible"]
    found = {}
    for split in ("train", "heldout"):
        choose = PhraseChooser(np.random.default_rng(0), split)
        found[split] = {_misspelt_word(word, choose) for word in words for _ in range(300)} - set(
            words
        )
    assert len(found["train"]) > 100
    assert not found["train"] & found["heldout"]


def test_an_entry_that_yaml_does_not_read_as_text_is_named():
    with pytest.raises(UserError, match=r"file: other: train holds True: put it in quotes"):
        _check_text({"other": {"train": ["a", True]}}, "file")


def test_spaces_of_empty_fields_are_removed():
    assert tidy(" make it  brighter , please ") == "make it brighter, please"
