"""Writes the counts of the instruction pools into data/instructions/README.md.

Run `python data/build_instruction_card.py` after changes of `data/instructions/*.yaml`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.prompts import (
    FORMS,
    GRANULARITIES,
    INSTRUCTION_POOLS,
    SPLITS,
    Instruction,
)
from ditfuse_jax.resources import resource

BEGIN, END = "<!-- counts: data/build_instruction_card.py -->", "<!-- end of counts -->"


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
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


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
