import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import (
    MAX_IMAGES,
    SPECIAL_TOKENS,
    SUBTASKS,
    as_prompt,
    frame,
    image_only_prompt,
    join_instructions,
    split_prompt,
    task_prompt,
    without_tags,
)

IMAGES = ("<img><|image_1|></img>", "<img><|image_2|></img>")


def test_a_task_prompt_reads_as_the_method_writes_it():
    assert task_prompt("FUSION", "MULTI-MODALITIES", "Merge them.") == (
        "[FUSION]. <MULTI-MODALITIES>. This is the first image <img><|image_1|></img>, "
        "and this is the second image <img><|image_2|></img>. Merge them."
    )


def test_a_sentence_without_an_end_is_parted_from_the_next_by_a_full_stop():
    assert join_instructions("fuse these please", "brighter") == "fuse these please. brighter"
    assert join_instructions("Merge both!", "Much darker.") == "Merge both! Much darker."


def test_without_a_subtask_its_tag_is_left_out():
    assert task_prompt("FUSION", None, "Merge them.").startswith("[FUSION]. This is the first")


@pytest.mark.parametrize(
    ("num_images", "introduction"),
    [
        (1, "This is the image {}."),
        (3, "This is the first image {}, this is the second image {}, and this is the third {2}."),
        (
            4,
            "This is the first image {}, this is the second image {}, this is the third image {}, "
            "and this is the fourth image {}.",
        ),
    ],
)
def test_one_three_and_four_images_are_introduced_in_plain_english(num_images, introduction):
    images = [f"<img><|image_{k}|></img>" for k in range(1, num_images + 1)]
    expected = introduction.replace("third {2}", "third image {}").format(*images)
    assert task_prompt("SEG", None, "Segment it.", num_images) == f"[SEG]. {expected} Segment it."


def test_the_frame_is_that_of_omnigen():
    assert frame("PROMPT") == (
        "<|user|>\nGenerate an image according to the following instructions\nPROMPT<|end|>\n"
        "<|assistant|>\n<|diffusion|>"
    )


def test_a_prompt_is_not_framed_twice():
    with pytest.raises(UserError, match="already"):
        frame(frame("a"))


def test_the_image_only_prompt_holds_nothing_but_images():
    assert image_only_prompt(2) == " ".join(IMAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("FUSE", None, "a"), "FUSION, CONTROL, SEG"),
        (("FUSION", "LIGHT+", "a"), "MULTI-MODALITIES, MULTI-FOCUS, MULTI-EXPOSURE"),
        (("SEG", "LIGHT+", "a"), "none"),
        (("FUSION", None, " \n"), "empty"),
        (("FUSION", None, "mix <|image_1|> in"), re.escape("<|image_1|>")),
        (("FUSION", None, "a", 0), f"1 to {MAX_IMAGES}"),
        (("FUSION", None, "a", MAX_IMAGES + 1), f"1 to {MAX_IMAGES}"),
    ],
)
def test_a_wrong_part_of_a_task_prompt_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        task_prompt(*arguments)


@pytest.mark.parametrize("num_images", range(1, MAX_IMAGES + 1))
@pytest.mark.parametrize("framed", [False, True])
def test_splitting_takes_out_the_placeholders_and_nothing_else(num_images, framed):
    prompt = task_prompt("FUSION", "MULTI-FOCUS", "Make it sharp.", num_images)
    prompt = frame(prompt) if framed else prompt
    split = split_prompt(prompt, num_images)
    placeholders = [f"<|image_{k + 1}|>" for k in split.order] + [""]
    pieces = zip(split.segments, placeholders, strict=True)
    assert "".join(text + placeholder for text, placeholder in pieces) == prompt
    assert all(text.endswith("<img>") for text in split.segments[:-1])
    assert all(text.startswith("</img>") for text in split.segments[1:])


@settings(deadline=None)
@given(st.permutations([1, 2, 3]), st.lists(st.text("ab <|>_", max_size=5), min_size=4, max_size=4))
def test_images_keep_the_order_in_which_the_prompt_places_them(numbers, texts):
    prompt = texts[0] + "".join(
        f"<|image_{n}|>{text}" for n, text in zip(numbers, texts[1:], strict=True)
    )
    split = split_prompt(prompt, 3)
    assert split.order == tuple(n - 1 for n in numbers)
    assert split.segments == tuple(texts)


def test_an_image_may_be_placed_several_times():
    split = split_prompt("a<|image_2|>b<|image_1|>c<|image_2|>d<|image_2|>", 2)
    assert split.order == (1, 0, 1, 1)
    assert split.segments == ("a", "b", "c", "d", "")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("<|image_1|> alone", "does not place image 2 of 2"),
        ("no image at all", "does not place image 1 of 2"),
        ("<|image_1|><|image_2|>" + 3 * "<|image_1|>", "places 5 images, .* at most 4"),
        ("<|image_1|><|image_2|><|image_3|>", r"<\|image_3\|> but the number of images is 2"),
        ("<|image_0|><|image_1|>", r"<\|image_0\|> but the number of images is 2"),
    ],
)
def test_missing_and_surplus_placeholders_are_named(prompt, message):
    with pytest.raises(UserError, match=message):
        split_prompt(prompt, 2)


def test_a_plain_sentence_becomes_a_task_prompt():
    assert as_prompt("make it brighter", 2, "CONTROL", "LIGHT++") == task_prompt(
        "CONTROL", "LIGHT++", "make it brighter"
    )


@pytest.mark.parametrize("task, subtask", [("CONTROL", "LIGHT++"), ("SEG", None)])
def test_a_prompt_without_tags_equals_that_of_a_plain_sentence(task, subtask):
    prompt = task_prompt(task, subtask, "Segment the [SEG]. car.", 3)
    assert without_tags(prompt) == as_prompt("Segment the [SEG]. car.", 3)


def test_a_prompt_without_tags_is_unchanged():
    prompt = "Put <|image_2|> below <|image_1|>. [SEG]. <LIGHT+>. "
    assert without_tags(prompt) == prompt


def test_a_complete_prompt_is_checked_and_unchanged():
    prompt = f"Put {IMAGES[1]} over {IMAGES[0]}."
    assert as_prompt(prompt, 2) == prompt
    with pytest.raises(UserError, match="does not place image 3"):
        as_prompt(prompt, 3)


def test_every_tag_is_a_special_token_and_none_is_listed_twice():
    tags = [f"[{task}]" for task in SUBTASKS]
    tags += [f"<{tag}>" for subtasks in SUBTASKS.values() for tag in subtasks]
    assert set(tags) <= set(SPECIAL_TOKENS)
    assert len(set(SPECIAL_TOKENS)) == len(SPECIAL_TOKENS)
