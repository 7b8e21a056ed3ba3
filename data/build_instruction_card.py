"""Writes the counts of the instruction pools and of the grammar into data/instructions/README.md.

Run `python data/build_instruction_card.py` after changes of `data/instructions/`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.prompts import (
    FORMS,
    GRANULARITIES,
    INSTRUCTION_POOLS,
    SPLITS,
    Instruction,
)
from ditfuse_jax.prompts.grammar import distinct_instructions
from ditfuse_jax.prompts.phrases import grammar_file
from ditfuse_jax.prompts.requests import AXES
from ditfuse_jax.resources import resource

BEGIN, END = "<!-- counts: data/build_instruction_card.py -->", "<!-- end of counts -->"
GRAMMAR_BEGIN = "<!-- counts of the grammar: data/build_instruction_card.py -->"

_FILES = (
    *("brightness", "contrast", "saturation", "detail", "emphasis", "repair", "segmentation"),
    *("regions", "constructions", "degrees", "nothing", "wrappers"),
)
_SAMPLE = 20_000


def tables() -> str:
    """Returns the counts as Markdown: by group, and by granularity and form."""
    pools = {group: INSTRUCTION_POOLS.find(group).instructions for group in INSTRUCTION_POOLS}
    everything = [sentence for sentences in pools.values() for sentence in sentences]
    parts = Counter(sentence.split for sentence in everything)
    groups = [
        f"| {name} | {_counts(sentences)} |"
        for name, sentences in (*pools.items(), ("all", everything))
    ]
    kinds = []
    for title, field, known in (
        ("granularity", "granularity", GRANULARITIES),
        ("form", "form", FORMS),
    ):
        kinds += ["", f"| {title} | meaning | train | heldout |", "|---|---|---|---|"]
        for name, meaning in known.items():
            of_kind = [sentence for sentence in everything if getattr(sentence, field) == name]
            counts = " | ".join(str(_of_part(of_kind, part)) for part in SPLITS)
            kinds.append(f"| {name} | {meaning} | {counts} |")
    total = f"{len(everything)} sentences: {parts['train']} to train, {parts['heldout']} held out."
    titles = " | ".join(("group", *SPLITS, *GRANULARITIES))
    head = [total, "", f"| {titles} |", "|---" * (3 + len(GRANULARITIES)) + "|"]
    return "\n".join([*head, *groups, *kinds])


def card() -> str:
    """Returns the text of the README with current tables."""
    text = _path().read_text(encoding="utf-8")
    for begin, content in ((BEGIN, tables()), (GRAMMAR_BEGIN, grammar_tables())):
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{content}\n\n{END}{rest.partition(END)[2]}"
    return text


def grammar_tables() -> str:
    """Returns the counts of the grammar's phrases, and of a sample of its sentences."""
    lines = ["| file of phrases | train | heldout |", "|---|---|---|"]
    for name in _FILES:
        lists = list(phrase_lists(grammar_file(name)))
        counts = [sum(len(one.get(split, ())) for one in lists) for split in SPLITS]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} |")
    sentences = distinct_instructions(_SAMPLE, 0, "train")
    requests = [one for found in sentences.values() for one in found]
    number = Counter(len(found) for found in sentences.values())
    axes = Counter(one.axis for one in requests)
    limited = sum(bool(one.classes) and one.axis != "segment" for one in requests)
    lines += [
        "",
        f"Of {_SAMPLE:,} distinct training sentences (seed 0), {number[0]:,} ask for nothing, "
        f"{number[1]:,} for one change, {number[2]:,} for two and {number[3]:,} for three.  "
        f"Requests: {', '.join(f'{axis} {axes[axis]:,}' for axis in AXES)}; "
        f"{limited:,} are limited to classes.",
    ]
    return "\n".join(lines)


def phrase_lists(content: Any) -> Iterator[Mapping[str, Sequence[Any]]]:
    """Yields the phrase lists of a file of the grammar, at any depth."""
    if not isinstance(content, Mapping):
        return
    if isinstance(content.get("train"), list):
        yield content
        return
    for value in content.values():
        yield from phrase_lists(value)


def _counts(sentences: Sequence[Instruction]) -> str:
    granularities = Counter(sentence.granularity for sentence in sentences)
    counts = [_of_part(sentences, part) for part in SPLITS]
    counts += [granularities[granularity] for granularity in GRANULARITIES]
    return " | ".join(str(count) for count in counts)


def _of_part(sentences: Sequence[Instruction], part: str) -> int:
    return sum(sentence.split == part for sentence in sentences)


def _path() -> Path:
    return resource("data", "instructions", "README.md")


if __name__ == "__main__":
    _path().write_text(card(), encoding="utf-8")
