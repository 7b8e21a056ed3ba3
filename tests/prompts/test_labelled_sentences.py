import re

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.core_sentences import core_sentences
from ditfuse_jax.prompts.labelled_sentences import read_labelled
from ditfuse_jax.prompts.requests import AXES, parse_requests
from ditfuse_jax.resources import resource

FOLDER = resource("data", "instructions")
EVERYDAY = read_labelled(FOLDER / "everyday.tsv")
BLIND = read_labelled(FOLDER / "blind.tsv")


def words(sentence):
    return " ".join(re.findall(r"[a-z0-9]+", sentence.lower()))


def test_no_sentence_for_measuring_is_a_training_sentence():
    training = {words(sentence) for sentence, _ in core_sentences()}
    assert not training & {words(sentence) for sentence in (*EVERYDAY, *BLIND)}
    assert not {words(sentence) for sentence in BLIND} & {words(sentence) for sentence in EVERYDAY}


def test_the_readme_counts_the_files():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`core.tsv` holds {len(core_sentences()):,} training sentences" in text
    assert f"`everyday.tsv` holds {len(EVERYDAY)} sentences" in text
    assert f"`blind.tsv` holds {len(BLIND)} more" in text


def test_every_axis_is_asked_for_at_least_twenty_times():
    for sentences in (EVERYDAY, BLIND):
        asked = [request.axis for requests in sentences.values() for request in requests]
        assert min(asked.count(axis) for axis in AXES) >= 20


def test_sentences_and_their_requests_are_read(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("darker\tbrightness -1\n\nleave it\tnothing\n", encoding="utf-8")
    assert read_labelled(file) == {"darker": parse_requests("brightness -1"), "leave it": ()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("darker brightness -1\n", "mine.tsv:1: write the sentence, a tab"),
        ("a\tnothing\nb\tbrightness 7\n", "mine.tsv:2: "),
        ("\n\n", "holds no sentence"),
        (
            "a\tbrightness -2\nb\tnothing\na\tbrightness -1\n",
            "mine.tsv:3: 'a' asks for brightness -2 in an earlier line and for brightness -1 here",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, problem):
    file = tmp_path / "mine.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(problem)):
        read_labelled(file)
