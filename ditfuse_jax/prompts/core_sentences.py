"""Training sentences that were written one by one, alone and joined in pairs."""

from functools import cache

from ditfuse_jax.prompts.labelled_sentences import read_labelled
from ditfuse_jax.prompts.phrases import PhraseChooser, grammar_file
from ditfuse_jax.prompts.requests import Requests, check_requests, conflicting
from ditfuse_jax.resources import resource

_SHORT = 9  # words of a sentence that is joined to another


@cache
def core_sentences() -> list[tuple[str, Requests]]:
    """Returns the sentences of data/instructions/core.tsv with their requests."""
    return list(read_labelled(resource("data", "instructions", "core.tsv")).items())


@cache
def _short_sentences() -> list[tuple[str, Requests]]:
    return [
        (text, asked)
        for text, asked in core_sentences()
        if len(asked) == 1 and len(text.split()) <= _SHORT
    ]


def core_pair(choose: PhraseChooser) -> tuple[str, Requests]:
    """Joins two short sentences that make one request each."""
    while True:
        (one, first), (two, second) = (choose.one_of(_short_sentences()) for _ in range(2))
        if not conflicting(first[0], second[0]):
            break
    join = choose.phrase(grammar_file("wrappers")["join"])
    if not one.endswith(("!", "?")):
        one = one.rstrip(".")
    elif join[0] in ",.;":
        join = join.lstrip(",.;")
    if not join.startswith(".") and two[:2] not in ("I ", "I'") and not two[1:2].isupper():
        two = two[0].lower() + two[1:]
    return one + join + two, check_requests((*first, *second))
