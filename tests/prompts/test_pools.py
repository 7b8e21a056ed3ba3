import difflib
import importlib.util
import itertools
import shutil
from collections import Counter

import pytest
import yaml

from ditfuse_jax.degrade import TONES
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import (
    FORMS,
    GRANULARITIES,
    INSTRUCTION_POOLS,
    SPECIAL_TOKENS,
    SUBTASKS,
    instructions,
    read_pool,
    read_pools,
)
from ditfuse_jax.resources import resource

GROUPS = {
    *("fusion", "ivif", "mff", "mef", "segmentation", "contrast_plus", "contrast_minus"),
    *("light_plus_plus", "light_plus", "light_minus", "light_minus_minus"),
}
BEYOND = {"restoration", "medical", "stack", "region", "scene"}
EVERY = sorted(GROUPS | BEYOND)


def test_the_eleven_groups_of_the_method_are_there_and_five_more():
    assert set(INSTRUCTION_POOLS) == GROUPS | BEYOND


def test_pools_are_found_from_any_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(read_pools(resource("data", "instructions"))["mff"].sentences) >= 20


@pytest.mark.parametrize("group", EVERY)
def test_sentences_are_clean(group):
    sentences = instructions(group) + instructions(group, heldout=True)
    assert len(sentences) >= (45 if group in GROUPS else 25)
    for sentence in sentences:
        assert sentence == " ".join(sentence.split())
        assert sentence.isascii()
        assert not any(token in sentence for token in SPECIAL_TOKENS)


def test_there_are_more_than_six_hundred_sentences_in_the_method_s_groups():
    assert sum(len(INSTRUCTION_POOLS.find(group).instructions) for group in GROUPS) > 600


def test_the_first_sentence_is_the_one_that_sampling_asks_by_default():
    first = {group: instructions(group)[0] for group in ("fusion", "ivif", "mff", "mef")}
    assert first == {
        "fusion": "Fuse the two images into one.",
        "ivif": "Fuse the infrared and the visible image.",
        "mff": "Fuse the two focus settings into one sharp image.",
        "mef": "Fuse the two exposures.",
    }


class TestHeldOut:
    """A fifth of every pool, of the same forms as the rest, with other wording."""

    @pytest.mark.parametrize("group", EVERY)
    def test_it_is_a_fifth(self, group):
        heldout = len(instructions(group, heldout=True))
        assert 0.18 < heldout / len(INSTRUCTION_POOLS.find(group).instructions) < 0.23

    @pytest.mark.parametrize("group", EVERY)
    def test_every_kind_with_enough_sentences_is_in_both_parts(self, group):
        annotated = INSTRUCTION_POOLS.find(group).instructions
        for field, enough in (("form", 3), ("granularity", 5)):
            counts = Counter(getattr(one, field) for one in annotated)
            for kind in (kind for kind, count in counts.items() if count >= enough):
                parts = {one.split for one in annotated if getattr(one, field) == kind}
                assert parts == {"train", "heldout"}, kind

    def test_every_form_and_granularity_is_in_both_splits(self):
        annotated = [one for group in GROUPS for one in INSTRUCTION_POOLS.find(group).instructions]
        for part in ("train", "heldout"):
            assert {one.form for one in annotated if one.split == part} == set(FORMS)
            assert {one.granularity for one in annotated if one.split == part} == set(GRANULARITIES)

    @pytest.mark.parametrize("group", EVERY)
    def test_no_sentence_is_a_variant_of_another(self, group):
        words = [one.text.casefold().split() for one in INSTRUCTION_POOLS.find(group).instructions]
        for one, other in itertools.combinations(words, 2):
            assert difflib.SequenceMatcher(None, one, other).ratio() < 0.75, (one, other)


def test_slight_never_asks_for_much_and_strong_never_for_little():
    much = {"much", "strongly", "dramatically", "drastic", "massively", "extremely", "heavily"}
    little = {"slightly", "slight", "gently", "mildly", "subtle", "touch", "smidge", "modest"}
    levels = {"slight": much, "strong": little}
    seen = Counter()
    for group in GROUPS:
        pool = INSTRUCTION_POOLS.find(group)
        for one in pool.instructions if pool.level else ():
            seen[pool.level] += 1
            if one.form == "negation" or "Don't change much" in one.text:
                continue  # they name what they do not want
            words = set(one.text.casefold().replace(",", " ").replace(".", " ").split())
            assert not words & levels[pool.level], one.text
    assert seen.keys() == levels.keys()
    assert {group for group in GROUPS if INSTRUCTION_POOLS.find(group).level} == {
        group for group in GROUPS if group.startswith("light")
    }


def test_only_segmentation_speaks_of_a_class():
    for group in EVERY:
        for one in INSTRUCTION_POOLS.find(group).instructions:
            assert ("{class}" in one.text) == (group == "segmentation")
            assert not set("{}") & set(one.text.replace("{class}", ""))


def test_every_subtask_of_the_original_has_exactly_one_of_the_eleven_pools():
    tags = [(INSTRUCTION_POOLS.find(g).task, INSTRUCTION_POOLS.find(g).tag) for g in GROUPS]
    tagged = sorted((task, tag) for task, tag in tags if tag is not None)
    original = {"FUSION": SUBTASKS["FUSION"], "CONTROL": TONES}
    assert tagged == sorted((task, tag) for task, of_task in original.items() for tag in of_task)


def test_an_unknown_pool_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'fuse'.*contrast_minus, .*segmentation"):
        instructions("fuse")


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="split 'test' is unknown; choose train or heldout"):
        INSTRUCTION_POOLS.find("mff").sentences_of("test")


@pytest.mark.medium
def test_the_counts_in_the_card_are_those_of_the_files():
    path = resource("data", "build_instruction_card.py")
    spec = importlib.util.spec_from_file_location("build_instruction_card", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = resource("data", "instructions", "README.md").read_text(encoding="utf-8")
    assert written == module.card(), "run data/build_instruction_card.py"
    total = sum(len(INSTRUCTION_POOLS.find(group).instructions) for group in EVERY)
    assert f"\n{total} sentences: " in written


GOOD = {
    "group": "mine",
    "task": "FUSION",
    "train": {"task": {"plain": ["Merge."], "terse": ["merge both"]}},
    "heldout": {"task": {"plain": ["Fuse."]}},
}


def mine(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes, sort_keys=False), encoding="utf-8")
    return path


def test_a_pool_is_read_with_its_annotations(tmp_path):
    pool = read_pool(mine(tmp_path, images=[3], level="slight"))
    assert pool.sentences == ("Merge.", "merge both")
    assert pool.sentences_of("heldout") == ("Fuse.",)
    assert (pool.task, pool.tag, pool.images, pool.level) == ("FUSION", None, (3,), "slight")
    assert [(one.split, one.granularity, one.form) for one in pool.instructions] == [
        ("train", "task", "plain"),
        ("train", "task", "terse"),
        ("heldout", "task", "plain"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": "other"}, "group: mine"),
        ({"tag": "LIGHT+"}, r"tag 'LIGHT\+'"),
        ({"task": ["FUSION"]}, r"task \['FUSION'\]"),
        ({"level": "huge"}, "unknown level 'huge'"),
        ({"images": [5]}, r"images \[5\]: list numbers from 1 to 4"),
        ({"images": 2}, "images 2: list"),
        ({"sentences": ["a"]}, "unknown field 'sentences'"),
        ({"train": {}}, "no sentences under `train:`"),
        ({"heldout": None}, "no sentences under `heldout:`"),
        ({"train": ["Merge."]}, "no names under `train`: choose from task, global"),
        ({"train": {"word": {}}}, "unknown name 'word' under `train`: choose from task"),
        ({"train": {"task": ["Merge."]}}, "no names under `train: task`"),
        ({"train": {"task": {"rude": ["a"]}}}, "unknown name 'rude' under `train: task`"),
        ({"train": {"task": {"plain": []}}}, "no sentences under `train: task: plain`"),
        ({"train": {"task": {"plain": [False]}}}, "False as a sentence under `train: task: pl"),
        ({"train": {"task": {"plain": [" "]}}}, "' ' as a sentence"),
        (
            {"heldout": {"task": {"plain": ["merge"]}}},
            "'merge' under `heldout`, .* `train`: keep one",
        ),
        ({"train": {"task": {"plain": ["A b.", "a  b"]}}}, "'a  b' under `train`, .* keep one"),
    ],
)
def test_an_invalid_pool_is_refused_with_its_path_in_one_line(changes, message, tmp_path):
    with pytest.raises(UserError, match=rf"mine\.yaml .*{message}") as raised:
        read_pool(mine(tmp_path, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"group: [", "not valid YAML"),
        (b"group: \xff", "not valid YAML"),
        (b"? [group]\n: mine", "not valid YAML"),
        (b"- group", "begin it with `group: mine`"),
        (b"train:\n  task:\n    plain: [a]\n    plain: [b]", "'plain' occurs twice.* line 4"),
    ],
)
def test_a_file_that_is_not_a_pool_is_refused_with_its_path(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(text)
    with pytest.raises(UserError, match=rf"mine\.yaml.*{message}") as raised:
        read_pool(tmp_path / "mine.yaml")
    assert "\n" not in str(raised.value)


def test_a_missing_pool_is_refused_with_its_path(tmp_path):
    with pytest.raises(UserError, match=r"mine\.yaml cannot be read"):
        read_pool(tmp_path / "mine.yaml")


def test_a_sentence_in_two_pools_is_refused_with_both_files(tmp_path):
    for group in ("mff", "mef"):
        shutil.copy(resource("data", "instructions", f"{group}.yaml"), tmp_path)
    text = (
        (tmp_path / "mff.yaml").read_text().replace("- focus stack\n", "- Fuse the two exposures\n")
    )
    (tmp_path / "mff.yaml").write_text(text)
    with pytest.raises(UserError, match=r"mff\.yaml .*'Fuse the two exposures'.*mef\.yaml"):
        read_pools(tmp_path)
