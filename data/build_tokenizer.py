"""Builds the tokenizer of the presets that are trained from scratch.

    python data/build_tokenizer.py                    # after a tag was added to prompts/template.py
    python data/build_tokenizer.py --train FOLDER     # a new tokenizer from tokenizer_corpus.tsv

The first command appends the special tokens that the shipped tokenizer lacks; commit what it
writes to `ditfuse_jax/prompts/assets/`.  The ids of existing tokens stay the same, so trained
models remain valid (`prompts.fingerprint` checks this).  The second one trains a tokenizer anew, in
which all ids may differ: it is for new models, which name its folder as `config.data.tokenizer`.

It is a byte-level BPE: any Unicode text is encoded and decoded without loss.  Tags and the tokens
of the chat frame are special tokens, which are never split.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import MAX_IMAGES, frame, special_tokens, task_prompt
from ditfuse_jax.resources import resource

# Rows of the token embedding in the presets.
VOCABULARY_SIZE = 2048

# Names of classes, each the whole instruction of a prompt.
CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "cyclist", "person", "people", "bicycle", "bike", "bus", "truck", "lamp"),
    *("motorcycle", "traffic light", "guardrail", "vegetation", "animal", "dog", "cat"),
)

_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "clean_up_tokenization_spaces": False,
}


def shipped() -> Tokenizer:
    """Returns the tokenizer of the package."""
    return Tokenizer.from_file(str(resource("prompts", "assets", "tokenizer.json")))


def first_special_tokens(tokenizer: Tokenizer) -> list[str]:
    """Returns the special tokens with the lowest ids, in their order; later ones are appended."""
    tokens = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
    count = next(i for i in range(len(tokens) + 1) if i not in tokens)
    return [tokens[i] for i in range(count)]


def append_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> None:
    """Gives special tokens that a tokenizer lacks the ids after its last one.

    Raises:
      UserError: the presets' embedding has no row left for them.
    """
    missing = [token for token in tokens if tokenizer.token_to_id(token) is None]
    size = tokenizer.get_vocab_size() + len(missing)
    if size > VOCABULARY_SIZE:
        raise UserError(
            f"{len(missing)} more special tokens make {size} tokens, but the embedding of the "
            f"presets has {VOCABULARY_SIZE} rows: remove tags, or train a new tokenizer and set "
            "model.vocab_size"
        )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in missing])


def corpus() -> Iterator[str]:
    """Yields every instruction as it appears in its prompt, and the prompt for each image count."""
    lines = resource("data", "tokenizer_corpus.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        task, tag, sentence = line.split("\t")
        yield frame(task_prompt(task, tag or None, sentence))
    for num_images in range(1, MAX_IMAGES + 1):
        for name in CLASSES:
            yield frame(task_prompt("SEG", None, name, num_images))


def train(tokens: Sequence[str]) -> Tokenizer:
    """Trains a tokenizer on the corpus, whose special tokens get the lowest ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        special_tokens=list(tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The trainer would also merge the characters of special tokens, so these are cut out.
    special = re.compile("|".join(re.escape(token) for token in tokens))
    tokenizer.train_from_iterator((special.split(text) for text in corpus()), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def build(tokenizer: Tokenizer | None = None) -> dict[str, str]:
    """Returns the files of a tokenizer with all special tokens: their names and their JSON.

    Args:
      tokenizer: to append to; by default the shipped one.
    """
    tokenizer = tokenizer or shipped()
    append_tokens(tokenizer, special_tokens())
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(_CONFIG, indent=2) + "\n",
    }


def write(files: dict[str, str], folder: Path) -> None:
    """Writes a tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Builds the tokenizer.")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="train a new tokenizer")
    args = parser.parse_args()
    folder = args.train or resource("prompts", "assets")
    tokenizer = train(special_tokens()) if args.train else shipped()
    write(build(tokenizer), folder)
    print(f"{folder}: {tokenizer.get_vocab_size()} tokens (at most {VOCABULARY_SIZE})")


if __name__ == "__main__":
    main()
