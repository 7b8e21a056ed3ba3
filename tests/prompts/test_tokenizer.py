import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import (
    CONDITION_DROPPED,
    INSTRUCTION_POOLS,
    SPECIAL_TOKENS,
    TextSlots,
    encode_prompt,
    frame,
    image_only_prompt,
    join_instructions,
    load_tokenizer,
    task_prompt,
)

SLOTS = TextSlots(first=64, middle=32, last=160)
WIDE = TextSlots(first=2000, middle=2000, last=2000)
PLACEHOLDER = re.compile(r"<\|image_\d\|>")


def spoken(tokenizer, encoded) -> str:
    return tokenizer.decode(encoded.tokens[encoded.valid])


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
@pytest.mark.parametrize("sentence", ["{}", "a {} b", "light{}+>", "<{}>", "{0}{0}"])
def test_a_special_token_is_one_id_at_any_position(token, sentence):
    tokenizer = load_tokenizer()
    special = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    ids = tokenizer.encode(sentence.format(token), add_special_tokens=False)
    expected = [tokenizer.convert_tokens_to_ids(token)] * sentence.count("{")
    assert [i for i in ids if i in special] == expected


@settings(max_examples=200, deadline=None)  # the first example reads the tokenizer
@given(st.text())
def test_any_text_is_decoded_unchanged(text):
    tokenizer = load_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@settings(deadline=None)
@given(st.text(max_size=60).filter(str.strip))
def test_any_instruction_can_be_decoded_from_its_slots(instruction):
    tokenizer = load_tokenizer()
    prompt = task_prompt("FUSION", None, instruction)
    encoded = encode_prompt(tokenizer, prompt, 2, WIDE)
    assert spoken(tokenizer, encoded) == "<s>" + PLACEHOLDER.sub("", frame(prompt))


def test_each_slot_holds_its_segment():
    tokenizer = load_tokenizer()
    prompt = task_prompt("CONTROL", "LIGHT++", "Brighter.")
    encoded = encode_prompt(tokenizer, prompt, 2, SLOTS)
    texts = [
        tokenizer.decode(tokens[valid])
        for tokens, valid in zip(
            np.split(encoded.tokens, [64, 96]), np.split(encoded.valid, [64, 96]), strict=True
        )
    ]
    assert texts == ["<s>" + (cut := PLACEHOLDER.split(frame(prompt)))[0], *cut[1:]]
    assert encoded.tokens.shape == encoded.valid.shape == (256,)
    assert encoded.tokens[~encoded.valid].tolist() == [0] * int((~encoded.valid).sum())


@pytest.mark.parametrize(
    "prompt",
    [task_prompt("SEG", None, "Segment the car."), image_only_prompt(2), CONDITION_DROPPED, ""],
)
def test_bos_occurs_once_at_the_start_and_eos_never(prompt):
    tokenizer = load_tokenizer()
    encoded = encode_prompt(tokenizer, prompt, 2, SLOTS)
    assert (encoded.tokens == tokenizer.bos_token_id).nonzero()[0].tolist() == [0]
    assert tokenizer.eos_token_id not in encoded.tokens


def test_a_prompt_without_placeholders_shows_no_image():
    encoded = encode_prompt(load_tokenizer(), CONDITION_DROPPED, 2, SLOTS)
    assert encoded.image_valid.tolist() == [False, False]
    assert encoded.tokens.shape == (256,)


def test_swapped_images_are_in_the_order():
    prompt = "Put <img><|image_2|></img> over <img><|image_1|></img>."
    encoded = encode_prompt(load_tokenizer(), prompt, 2, SLOTS)
    assert encoded.order == (1, 0)
    assert encoded.image_valid.tolist() == [True, True]


def test_an_image_placed_twice_takes_two_slots():
    prompt = "<img><|image_1|></img> or <img><|image_2|></img> or <img><|image_1|></img>?"
    encoded = encode_prompt(load_tokenizer(), prompt, 2, SLOTS)
    assert encoded.order == (0, 1, 0)
    assert encoded.image_valid.tolist() == [True] * 3
    assert encoded.tokens.shape == (sum(SLOTS.capacities(3)),)


@pytest.mark.parametrize(
    ("prompt", "shown"), [(image_only_prompt(2), 2), (CONDITION_DROPPED, 0), ("blurry", 0)]
)
def test_slots_that_a_prompt_leaves_over_are_empty_but_there(prompt, shown):
    encoded = encode_prompt(load_tokenizer(), prompt, 2, SLOTS, num_slots=4)
    assert encoded.image_valid.tolist() == [k < shown for k in range(4)]
    assert encoded.tokens.shape == encoded.valid.shape == (sum(SLOTS.capacities(4)),)
    assert len(encoded.order) == 4
    assert set(encoded.order) <= {0, 1}  # all slots show an existing image


def test_more_placeholders_than_slots_are_an_error():
    with pytest.raises(UserError, match=r"places 2 images.* at most 1 are"):
        encode_prompt(load_tokenizer(), image_only_prompt(2), 2, SLOTS, num_slots=1)


def test_half_of_the_images_is_an_error():
    with pytest.raises(UserError, match="does not place image 2"):
        encode_prompt(load_tokenizer(), "only <img><|image_1|></img>", 2, SLOTS)


def test_the_error_for_a_long_instruction_names_the_limit():
    prompt = task_prompt("FUSION", None, "on and on " * 100)
    with pytest.raises(UserError, match=r"after the last image has \d+ tokens.* limit of 160"):
        encode_prompt(load_tokenizer(), prompt, 2, SLOTS)


@pytest.mark.parametrize("group", INSTRUCTION_POOLS)
def test_every_sentence_fits_the_slots_of_the_recipe_small_with_its_tags(group):
    """Its last slot is the smallest of all recipes from scratch; `nano` has twice as much."""
    tokenizer, tight = load_tokenizer(), TextSlots(first=32, middle=16, last=80)
    fusion = [sentence.text for sentence in INSTRUCTION_POOLS.find("fusion").instructions]
    longest_fusion = max(fusion, key=lambda text: len(tokenizer.encode(text)))
    pool = INSTRUCTION_POOLS.find(group)
    for text in (sentence.text for sentence in pool.instructions):
        text = text.replace("{class}", "traffic light")
        if pool.task == "CONTROL":
            text = join_instructions(longest_fusion, text)
        for num_images in pool.images:
            prompt = task_prompt(pool.task, pool.tag, text, num_images)
            encoded = encode_prompt(tokenizer, prompt, num_images, tight)
            assert spoken(tokenizer, encoded).endswith(frame(text).split("instructions\n")[1])


def test_loading_again_gives_the_same_object_and_it_survives_pickling():
    tokenizer = load_tokenizer()
    assert load_tokenizer() is tokenizer
    prompt = task_prompt("FUSION", None, "Merge both.")
    copy = pickle.loads(pickle.dumps(tokenizer))
    before, after = (encode_prompt(t, prompt, 2, SLOTS).tokens for t in (tokenizer, copy))
    np.testing.assert_array_equal(before, after)


def test_a_folder_without_tokenizer_is_refused_with_its_path(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=re.escape(f"no tokenizer in {folder}")):
            load_tokenizer(folder)


def test_a_damaged_tokenizer_is_an_error_of_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as raised:
        load_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.processes
def test_preparing_prompts_never_imports_jax():
    code = (
        "import sys; from ditfuse_jax.prompts import load_tokenizer; load_tokenizer();"
        "sys.exit(bool({'jax', 'flax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PyTorch" not in done.stderr  # no warning about its absence


@pytest.fixture(scope="module")
def llama_json():
    """A tokenizer like Llama's: SentencePiece's rules, a prefix space for every piece of text,
    BOS added by default, chat tokens that remove the white space after them."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator(["Merge the two images, keep what is sharp in each."], trainer)
    chat = ("<|user|>", "<|end|>", "<|assistant|>")
    tokenizer.add_special_tokens([AddedToken(t, rstrip=True, normalized=False) for t in chat])
    others = ("<|diffusion|>", "<img>", "</img>")
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in others])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer.to_str()


@pytest.mark.parametrize("prompt", [task_prompt("FUSION", None, "Keep 天 sharp."), "blurry, ugly"])
@pytest.mark.parametrize("config", [{}, {"add_bos_token": True}])
def test_a_llama_tokenizer_gives_the_ids_of_omnigen(prompt, config, llama_json, tmp_path):
    """OmniGen encodes each chunk by the tokenizer's defaults and drops BOS from all but the first
    (VectorSpaceLab/OmniGen, processor.py)."""
    config |= {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer.json").write_text(llama_json, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    plain = Tokenizer.from_str(llama_json)
    expected = []
    for chunk in PLACEHOLDER.split(frame(prompt)):
        ids = plain.encode(chunk).ids
        expected += ids[1:] if expected and ids[0] == 1 else ids
    encoded = encode_prompt(load_tokenizer(tmp_path), prompt, 2, WIDE)
    assert encoded.tokens[encoded.valid].tolist() == expected


def test_a_llama_tokenizer_with_add_bos_token_false_adds_no_bos(llama_json, tmp_path):
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "add_bos_token": False}
    (tmp_path / "tokenizer.json").write_text(llama_json, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    encoded = encode_prompt(load_tokenizer(tmp_path), image_only_prompt(2), 2, WIDE)
    assert 1 not in encoded.tokens[encoded.valid]


def test_an_unreadable_tokenizer_is_refused_with_the_parser_s_reason(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is unreadable \(.*line 1 column"):
        load_tokenizer(tmp_path)
