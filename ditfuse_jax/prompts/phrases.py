"""Phrases of the instruction grammar, data/instructions/grammar/*.yaml.

A list of phrases is written as `{train: [...], heldout: [...]}`: training sentences are made of
phrases of the first list only, held-out sentences contain phrases of the second.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import yaml

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.pools import SPLITS
from ditfuse_jax.resources import resource

# Probability that a held-out sentence takes a phrase from the held-out list.
_HELDOUT_SHARE = 0.5

# The loader in C, where PyYAML has it, is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FIELD = re.compile(r"\{(\w+)\}")

# `train` and `heldout`.
PhraseList = Mapping[str, Sequence[str]]


@cache
def grammar_file(name: str) -> Mapping[str, Any]:
    """Returns the content of `data/instructions/grammar/NAME.yaml`.

    Raises:
      UserError: the file is missing, no YAML, or holds an entry that is not text.
    """
    path = resource("data", "instructions", "grammar", f"{name}.yaml")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from error
    _check_text(content, str(path))
    return content


def _check_text(content: Any, where: str) -> None:
    """Refuses entries of lists that YAML does not read as text, such as an unquoted `yes`."""
    if isinstance(content, dict):
        for key, value in content.items():
            _check_text(value, f"{where}: {key}")
    elif isinstance(content, list):
        for value in content:
            if not isinstance(value, str):
                raise UserError(f"{where} holds {value!r}: put it in quotes")


class PhraseChooser:
    """Draws phrases of one split.

    Attributes:
      num_heldout: how many held-out phrases were drawn since the last `reset`.
    """

    def __init__(self, rng: np.random.Generator, split: str):
        """Creates a chooser of `split`, one of `SPLITS`."""
        assert split in SPLITS, split
        self.rng = rng
        self.heldout = split == "heldout"
        self.num_heldout = 0

    def reset(self) -> None:
        """Sets `num_heldout` to zero."""
        self.num_heldout = 0

    def chance(self, probability: float) -> bool:
        """Returns true with the given probability."""
        return self.rng.random() < probability

    def one_of(self, options: Sequence[Any]) -> Any:
        """Draws one element uniformly."""
        return options[int(self.rng.integers(len(options)))]

    def phrase(self, phrases: PhraseList) -> str:
        """Draws a phrase; one of the held-out list only in the held-out split."""
        rare = phrases.get("heldout", ())
        if self.heldout and rare and self.chance(_HELDOUT_SHARE):
            self.num_heldout += 1
            return self.one_of(rare)
        return self.one_of(phrases["train"])

    def fill(self, template: str, fields: Mapping[str, Any]) -> str:
        """Replaces `{name}` by the field: a text, a phrase list, or a function that returns a text.

        Unknown fields stay as they are.
        """

        def value(found: re.Match[str]) -> str:
            field: Any = fields.get(found[1], found[0])
            if callable(field):
                field = field()
            return field if isinstance(field, str) else self.phrase(field)

        return _FIELD.sub(value, template)


def tidy(text: str) -> str:
    """Removes the spaces that empty fields leave."""
    text = " ".join(text.split())
    return re.sub(r" ([,;.?!])", r"\1", text).strip(" ,;")
