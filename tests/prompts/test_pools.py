import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import (
    SPECIAL_TOKENS,
    SUBTASKS,
    instruction_groups,
    instruction_pool,
    instructions,
    pools,
)

GROUPS = {
    *("fusion", "ivif", "mff", "mef", "segmentation", "contrast_plus", "contrast_minus"),
    *("light_plus_plus", "light_plus", "light_minus", "light_minus_minus"),
}


def test_the_eleven_groups_of_the_method_are_there():
    assert set(instruction_groups()) == GROUPS


def test_pools_are_found_from_any_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    instruction_pool.cache_clear()
    assert len(instructions("mff")) >= 20


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_pool_has_twenty_or_more_clean_sentences(group):
    sentences = instructions(group)
    assert len(sentences) >= 20
    for sentence in sentences:
        assert sentence == " ".join(sentence.split())
        assert not any(token in sentence for token in SPECIAL_TOKENS)


def test_no_sentence_belongs_to_two_groups():
    folded = [s.casefold() for group in GROUPS for s in instructions(group)]
    assert len(set(folded)) == len(folded)


def test_only_segmentation_speaks_of_a_class():
    for group in GROUPS:
        for sentence in instructions(group):
            assert ("{class}" in sentence) == (group == "segmentation")
            assert not set("{}") & set(sentence.replace("{class}", ""))


def test_every_subtask_has_exactly_one_pool():
    tags = [(instruction_pool(g).task, instruction_pool(g).tag) for g in GROUPS]
    tagged = sorted((task, tag) for task, tag in tags if tag is not None)
    assert tagged == sorted((task, tag) for task in SUBTASKS for tag in SUBTASKS[task])


def test_an_unknown_group_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'fuse'.*contrast_minus, .*segmentation"):
        instructions("fuse")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("group: [", "not valid YAML"),
        ("group: other", "group: mine"),
        ("group: mine\ntask: FUSION\ntag: LIGHT+\nsentences: [a]", "tag 'LIGHT\\+'"),
        ("group: mine\ntask: FUSION\nsentences: []", "no sentences"),
        ("group: mine\ntask: FUSION\nsentences: [no]", "False as a sentence"),
    ],
)
def test_a_broken_pool_is_told_with_its_path(text, told, tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(pools, "resource", lambda *parts: tmp_path.joinpath(*parts[2:]))
    with pytest.raises(UserError, match=f"(?s)mine.yaml.*{told}") as raised:
        instruction_pool("mine")
    assert "\n" not in str(raised.value)
