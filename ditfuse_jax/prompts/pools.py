"""Pools of instructions, one file data/instructions/*.yaml each, described in README.md there.

A file names its tags and lists sentences under `train:` and `heldout:`, by granularity and form:

    group: ivif
    task: FUSION
    tag: MULTI-MODALITIES
    train:
      region:
        negation:
          - Don't lose the hot spots.

Training draws from the first split; the other measures how a model follows sentences that it was
not trained on.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.template import MAX_IMAGES, SUBTASKS
from ditfuse_jax.registry import Registry
from ditfuse_jax.resources import resource

SPLITS = ("train", "heldout")

GRANULARITIES: dict[str, str] = {
    "task": "names the job: the kind of sources, the technique",
    "global": "describes the result as a whole",
    "attribute": "names a property: sharpness, light, colour, noise",
    "region": "names a place, a thing or a person in the scene",
}

FORMS: dict[str, str] = {
    "plain": "a plain request",
    "terse": "a few words, as on a command line",
    "technical": "engineering terms",
    "question": "a question",
    "colloquial": "spoken language",
    "negation": "says what to avoid",
    "wish": "states a wish, or properties of the result",
    "context": "describes the situation, then asks",
    "learner": "the English of a learner",
    "typo": "with typing errors",
}

LEVELS = ("slight", "strong")

_FIELDS = ("group", "task", "tag", "level", "images", *SPLITS)


@dataclass(frozen=True)
class Instruction:
    """One sentence.

    Attributes:
      text: in segmentation, `{class}` stands for the name of the class.
      split: one of `SPLITS`.
      granularity: a key of `GRANULARITIES`.
      form: a key of `FORMS`.
    """

    text: str
    split: str
    granularity: str
    form: str


@dataclass(frozen=True)
class InstructionPool:
    """Sentences that ask for the same result.

    Attributes:
      group: the name of the pool, which is its file's.
      task: the task tag, e.g. "FUSION".
      tag: the subtask tag, e.g. "MULTI-FOCUS", or None.
      level: the strength that is asked for, one of `LEVELS`, or None where there is no choice.
      images: the numbers of source images that the sentences fit.
      instructions: all sentences of both splits, in the order of the file.
    """

    group: str
    task: str
    tag: str | None
    level: str | None
    images: tuple[int, ...]
    instructions: tuple[Instruction, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences that training draws from; the first is the default prompt."""
        return self.sentences_of("train")

    def sentences_of(self, split: str) -> tuple[str, ...]:
        """Returns the sentences of one of `SPLITS`.

        Raises:
          UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError(f"split {split!r} is unknown; choose {' or '.join(SPLITS)}")
        return tuple(sentence.text for sentence in self.instructions if sentence.split == split)


@cache
def instructions(group: str, *, heldout: bool = False) -> tuple[str, ...]:
    """Returns the sentences of the pool `group` that training draws from, or the held-out ones.

    A sentence of the brightness and contrast groups follows a fusion sentence.

    Raises:
      UserError: there is no such pool, or the file of one is invalid.
    """
    return INSTRUCTION_POOLS.find(group).sentences_of(SPLITS[heldout])


def read_pool(path: Path) -> InstructionPool:
    """Reads the file of a pool.

    Raises:
      UserError: it is missing or invalid; the message names the file and the place.
    """
    fields = _yaml(path)
    for field in fields:
        if field not in _FIELDS:
            raise UserError(f"{path} has the unknown field {field!r}: choose {', '.join(_FIELDS)}")
    if fields.get("group") != path.stem:
        raise UserError(f"{path} must name its group: begin it with `group: {path.stem}`")
    task, tag, level = fields.get("task"), fields.get("tag"), fields.get("level")
    if not isinstance(task, str) or task not in SUBTASKS or tag not in (None, *SUBTASKS[task]):
        raise UserError(f"{path} has unknown tags, task {task!r} and tag {tag!r}: correct them")
    if level is not None and level not in LEVELS:
        raise UserError(f"{path} has the unknown level {level!r}: choose {' or '.join(LEVELS)}")
    images = fields.get("images", [2])
    if not isinstance(images, list) or any(n not in range(1, MAX_IMAGES + 1) for n in images):
        raise UserError(f"{path} has images {images!r}: list numbers from 1 to {MAX_IMAGES}")
    sentences = tuple(one for split in SPLITS for one in _sentences(path, split, fields.get(split)))
    _check_distinct([(str(path), sentences)])
    return InstructionPool(path.stem, task, tag, level, tuple(images), sentences)


# PyYAML lacks its C library, which is ten times faster, where no wheel exists.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Refuses a repeated key, where YAML would silently drop the first value."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                raise yaml.MarkedYAMLError(None, None, f"{name!r} occurs twice", key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def read_pools(folder: Path) -> dict[str, InstructionPool]:
    """Reads all pools of a folder, `*.yaml`, sorted by name.

    Raises:
      UserError: one is invalid, or two have a sentence in common.
    """
    pools = {path.stem: read_pool(path) for path in sorted(folder.glob("*.yaml"))}
    _check_distinct([(str(folder / f"{g}.yaml"), pool.instructions) for g, pool in pools.items()])
    return pools


def _yaml(path: Path) -> dict[str, Any]:
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:  # a list as a name
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML ({reason}): correct it") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} must name its group: begin it with `group: {path.stem}`")
    return fields


def _sentences(path: Path, split: str, content: Any) -> Iterator[Instruction]:
    if not content:
        raise UserError(f"{path} has no sentences under `{split}:`: list them there")
    for granularity, forms in _entries(path, split, content, GRANULARITIES):
        where = f"{split}: {granularity}"
        for form, sentences in _entries(path, where, forms, FORMS):
            if not isinstance(sentences, list) or not sentences:
                raise UserError(f"{path} has no sentences under `{where}: {form}`: list or drop it")
            for sentence in sentences:
                if not isinstance(sentence, str) or not sentence.strip():
                    raise UserError(
                        f"{path} has {sentence!r} as a sentence under `{where}: {form}`: write "
                        "text, quoted if need be"
                    )
                yield Instruction(sentence, split, granularity, form)


def _entries(
    path: Path, where: str, content: Any, known: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        raise UserError(f"{path} has no names under `{where}`: choose from {', '.join(known)}")
    for name, below in content.items():
        if name not in known:
            raise UserError(
                f"{path} has the unknown name {name!r} under `{where}`: choose from "
                f"{', '.join(known)}"
            )
        yield name, below


def _check_distinct(pools: list[tuple[str, tuple[Instruction, ...]]]) -> None:
    """Refuses a sentence that occurs twice in any pool, ignoring case and punctuation."""
    seen: dict[str, tuple[str, str]] = {}
    for path, sentences in pools:
        for sentence in sentences:
            key = " ".join(re.sub(r"[.,;:!?]", " ", sentence.text).casefold().split())
            if key in seen:
                other, split = seen[key]
                place = f"`{split}`" if other == path else f"{other} `{split}`"
                raise UserError(
                    f"{path} has {sentence.text!r} under `{sentence.split}`, which is also under "
                    f"{place}: keep one"
                )
            seen[key] = path, sentence.split


INSTRUCTION_POOLS: Registry[InstructionPool] = Registry(
    "instruction pool", lambda: read_pools(resource("data", "instructions"))
)
