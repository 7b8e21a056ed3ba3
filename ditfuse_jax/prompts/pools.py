"""The pools of instructions that training draws from, one file data/instructions/*.yaml each."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.template import SUBTASKS
from ditfuse_jax.resources import resource


@dataclass(frozen=True)
class InstructionPool:
    """Sentences that ask for the same thing.

    Attributes:
      group: the name of the pool, which is its file's.
      task: the task tag, e.g. "FUSION".
      tag: the subtask tag, e.g. "MULTI-FOCUS", or None.
      sentences: in segmentation, `{class}` stands for the name of the class.
    """

    group: str
    task: str
    tag: str | None
    sentences: tuple[str, ...]


def instruction_groups() -> tuple[str, ...]:
    """Returns the names of all pools, sorted."""
    return tuple(sorted(path.stem for path in resource("data", "instructions").glob("*.yaml")))


@cache
def instruction_pool(group: str) -> InstructionPool:
    """Returns the pool of that name.

    Raises:
      UserError: no such pool, or its file is not as it should be.
    """
    known = instruction_groups()
    if group not in known:
        raise UserError(f"unknown instruction group {group!r}: choose one of {', '.join(known)}")
    return _read(resource("data", "instructions", f"{group}.yaml"))


def instructions(group: str) -> tuple[str, ...]:
    """Returns the sentences of the pool `group`.

    A sentence of the brightness and contrast groups follows a fusion sentence.

    Raises:
      UserError: as `instruction_pool`.
    """
    return instruction_pool(group).sentences


def _read(path: Path) -> InstructionPool:
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML ({reason}): correct it") from error
    if not isinstance(fields, dict) or fields.get("group") != path.stem:
        raise UserError(f"{path} must name its own group: begin it with `group: {path.stem}`")
    task, tag, sentences = fields.get("task"), fields.get("tag"), fields.get("sentences")
    if task not in SUBTASKS or (tag is not None and tag not in SUBTASKS[task]):
        raise UserError(f"{path} has unknown tags, task {task!r} and tag {tag!r}: correct them")
    if not isinstance(sentences, list) or not sentences:
        raise UserError(f"{path} has no sentences: list them under `sentences:`")
    for sentence in sentences:
        if not isinstance(sentence, str) or not sentence.strip():
            raise UserError(f"{path} has {sentence!r} as a sentence: write text, quoted if need be")
    return InstructionPool(path.stem, task, tag, tuple(sentences))
