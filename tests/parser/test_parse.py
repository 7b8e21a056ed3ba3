"""The bundled parser understands sentences; without it a model gets the sentence itself."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate import evaluate_understanding
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.parser.network import ParserConfig, init_parser
from ditfuse_jax.parser.parse import InstructionParser, load_parser
from ditfuse_jax.parser.wordpiece import make_wordpiece
from ditfuse_jax.prompts.labelled_sentences import read_labelled
from ditfuse_jax.prompts.requests import Request, describe
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.standard_prompts import standard_prompt

TAUGHT = SamplingConfig(requests="brightness,contrast:1,segment")


@pytest.mark.parametrize(
    ("sentence", "understood"),
    [
        ("make it brighter", "brightness +1"),
        ("much darker please", "brightness -2"),
        ("a little less contrast", "contrast -1"),
        ("do not make it brighter", "nothing"),
        ("fuse the images", "nothing"),
        ("mark the cars", "segment car"),
    ],
)
def test_plain_sentences_are_understood(sentence: str, understood: str):
    (parsed,) = load_parser()([sentence])
    assert str(parsed) == understood
    assert 0.5 < parsed.probability <= 1


def test_the_order_and_number_of_sentences_do_not_matter():
    texts = [
        "brighter",
        "a much longer sentence that asks for sharper details",
        "",
        "mark the road",
    ]
    together = load_parser()(texts)
    assert [load_parser()([text])[0].requests for text in texts] == [t.requests for t in together]
    assert load_parser()([]) == []


def test_a_parser_of_random_weights_returns_valid_requests():
    config = ParserConfig(3, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32)
    tokenizer = make_wordpiece(["[PAD]", "[UNK]", "a"])
    for seed in range(20):
        parser = InstructionParser(
            config, tokenizer, init_parser(config, np.random.default_rng(seed))
        )
        for parsed in parser(["a", "a b a", "b"]):
            assert len(parsed.requests) <= 3
            describe(parsed.requests)


def test_a_folder_without_a_parser_is_named(tmp_path):
    with pytest.raises(UserError, match="no instruction parser in"):
        load_parser(tmp_path)


def test_a_sentence_becomes_the_prompt_of_its_tags():
    instruction = make_instruction("please make it brighter", 2, TAUGHT)
    assert instruction.prompt == standard_prompt("light+", 2)
    assert str(instruction) == "understood: brightness +1"


@pytest.mark.parametrize("sentence", ["just fuse them", "don't make it brighter", "asdf qwer zxcv"])
@pytest.mark.parametrize("task", ["fuse", "ivif"])
def test_a_sentence_without_a_request_has_the_prompt_of_the_plain_task(sentence: str, task: str):
    instruction = make_instruction(sentence, 2, TAUGHT, task)
    assert instruction.prompt == standard_prompt(task, 2)
    assert instruction.understood == "nothing"


def test_what_the_model_was_not_taught_is_applied_to_its_image_and_said():
    instruction = make_instruction("more vivid colours", 2, TAUGHT)
    assert instruction.prompt == standard_prompt("fuse", 2)
    assert str(instruction) == "understood: saturation +1 (by image operations)"
    assert instruction.fusion_input([]).applied == (Request("saturation", 1),)


def test_without_apply_requests_it_changes_nothing_and_is_said():
    sampling = TAUGHT.override({"apply_requests": False})
    instruction = make_instruction("more vivid colours", 2, sampling)
    assert instruction.prompt == standard_prompt("fuse", 2)
    assert "left out: saturation +1, it was not taught saturation" in str(instruction)
    assert instruction.fusion_input([]).applied == ()


def test_an_adjustment_is_added_to_the_sentence_and_refused_where_it_is_impossible():
    both = make_instruction(
        "brighter",
        2,
        SamplingConfig(requests="brightness,contrast,compounds"),
        adjustments=[Request("contrast", -1)],
    )
    assert both.understood == "contrast -1; brightness +1" and not both.applied
    sampling = TAUGHT.override({"apply_requests": False})
    with pytest.raises(UserError, match="cannot do the adjustment detail"):
        make_instruction(None, 2, sampling, adjustments=[Request("detail", 1)])
    with pytest.raises(UserError, match="does not mark classes: a mask"):
        make_instruction(None, 2, SamplingConfig(), adjustments=[Request("detail", 1, ("car",))])


def test_a_model_that_reads_sentences_gets_them_beside_applied_adjustments():
    asked = make_instruction("at dusk", 2, SamplingConfig(), adjustments=[Request("detail", 1)])
    assert asked.prompt == standard_prompt("fuse", 2, "at dusk")
    assert asked.understood == asked.applied == "detail +1"


def test_prompts_that_say_everything_themselves_are_not_parsed():
    placed = "Put <img><|image_1|></img> over <img><|image_2|></img>, brighter"
    assert make_instruction(placed, 2, TAUGHT).prompt == placed
    assert make_instruction("brighter", 2, TAUGHT, "light-").prompt == standard_prompt(
        "light-", 2, "brighter"
    )
    assert make_instruction("brighter", 2, SamplingConfig()).understood is None


def test_a_file_of_sentences_is_scored_and_the_misunderstood_ones_are_written(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("make it brighter\tbrightness +1\nmake it darker\tsegment all\n")
    scores = evaluate_understanding([path], output=tmp_path / "out", quiet=True)
    assert scores["mine"]["exact"] == 0.5
    written = (tmp_path / "out" / "misunderstood.tsv").read_text().splitlines()
    assert written[1:] == ["mine\tmake it darker\tsegment all\tbrightness -1"]


def test_files_of_one_name_are_all_scored(tmp_path):
    files = [tmp_path / folder / "test.tsv" for folder in ("a", "b")]
    for file, label in zip(files, ("brightness +1", "segment all"), strict=True):
        file.parent.mkdir()
        file.write_text(f"make it brighter\t{label}\n")
    scores = evaluate_understanding(files, quiet=True)
    assert [scores[str(file)]["exact"] for file in files] == [1.0, 0.0]


@pytest.mark.parametrize("line", ["no tab", "a\tbrightness 1", "a\tglow +1", "a\tsegment moon"])
def test_a_wrong_line_is_named(tmp_path, line: str):
    path = tmp_path / "bad.tsv"
    path.write_text(f"fine\tnothing\n{line}\n")
    with pytest.raises(UserError, match=r"bad\.tsv:2"):
        read_labelled(path)
