"""Builds the tokenizer of the presets that are trained from scratch, from our own instructions.

The instructions stand in `tokenizer_corpus.tsv` and not in the pools, which may thus grow and
change without changing a token id.  Run `python data/build_tokenizer.py` after a change of that
file or of the tags, and commit what it writes to `ditfuse_jax/prompts/assets/`.  Models trained
before the change do not fit the new token ids.

It is a byte-level BPE, so any Unicode text goes in and comes out unchanged; the tags and the tokens
of the chat frame have the lowest ids and are never taken apart.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ditfuse_jax.prompts import (
    MAX_IMAGES,
    SPECIAL_TOKENS,
    frame,
    task_prompt,
)
from ditfuse_jax.resources import resource

VOCABULARY_SIZE = 2048

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "cyclist", "person", "people", "bicycle", "bike", "bus", "truck", "lamp"),
    *("motorcycle", "traffic light", "guardrail", "vegetation", "animal", "dog", "cat"),
)
"""Names of classes, each the whole instruction of a prompt."""


def corpus() -> Iterator[str]:
    """Yields every instruction as it appears in its prompt, and the prompt for each image count."""
    lines = resource("data", "tokenizer_corpus.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        task, tag, sentence = line.split("\t")
        yield frame(task_prompt(task, tag or None, sentence))
    for num_images in range(1, MAX_IMAGES + 1):
        for name in CLASSES:
            yield frame(task_prompt("SEG", None, name, num_images))


def build() -> dict[str, str]:
    """Returns the tokenizer's files: their names and their JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The trainer does not spare special tokens, so it is not shown any.
    special = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))
    tokenizer.train_from_iterator((special.split(text) for text in corpus()), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }


def main(folder: Path) -> None:
    """Writes the tokenizer's files to `folder`."""
    files = build()
    for name, text in files.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)
    size = len(json.loads(files["tokenizer.json"])["model"]["vocab"])
    print(f"{folder}: {size} tokens (at most {VOCABULARY_SIZE})")


if __name__ == "__main__":
    main(resource("prompts", "assets"))
