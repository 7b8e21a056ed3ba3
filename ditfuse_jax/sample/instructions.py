"""From what a user types to the prompt that a model gets.

Models that were taught requests by tags get the tags of the requests that a sentence is parsed to;
image operations do what they were not taught.  Other models get the sentence.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.checks import check_text
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.prompts import has_placeholders
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import Request, check_requests, describe, subject
from ditfuse_jax.prompts.taught_requests import TaughtRequests
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.standard_prompts import (
    SEGMENT,
    STANDARD_TASKS,
    standard_prompt,
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A prompt and what it asks for.

    Attributes:
      prompt: the model's prompt.
      understood: the requests as text, such as `brightness +1` or `nothing`; None if the model
        reads the sentence itself.
      left_out: what the sentence asks for and nobody can do, with the reason; empty if none.
      requests: those that image operations do; see `applied_requests.py`.
      plain: the prompt of the fusion without requests.
      segment: what the prompt asks to mark, if it asks for that and the classes are known.
    """

    prompt: str
    understood: str | None = None
    left_out: str = ""
    requests: tuple[Request, ...] = ()
    plain: str = ""
    segment: Request | None = None

    @property
    def applied(self) -> str:
        """The requests that image operations do as text; "" if there are none."""
        return describe(self.requests) if self.requests else ""

    def __str__(self) -> str:
        """Returns one line for the user."""
        more = remarks(self.understood, self.applied, self.left_out)
        return f"understood: {self.understood}{more and f' ({more})'}"

    def fusion_input(
        self,
        sources: Sequence[np.ndarray],
        depth: int | None = None,
        name: str = "an image",
    ) -> FusionInput:
        """Returns what is fused from sources, uint8 or uint16 (H, W, 3)."""
        return FusionInput(
            sources,
            self.prompt,
            depth,
            applied=self.requests,
            plain=self.plain,
            segment=self.segment,
            name=name,
        )


def remarks(understood: str | None, applied: str, left_out: str) -> str:
    """Returns one line on requests that the model does not do itself; "" if there are none."""
    operations = "by image operations" + ("" if applied == understood else f": {applied}")
    return "; ".join(filter(None, (applied and operations, left_out)))


def make_instruction(
    text: str | None,
    num_images: int,
    sampling: SamplingConfig,
    task: str = "fuse",
    adjustments: Sequence[Request] = (),
) -> Instruction:
    """Returns the prompt of a sentence, of adjustments, or of both.

    Args:
      text: a sentence, a full prompt with placeholders, or None for the task's standard prompt.
      num_images: number of source images.
      sampling: whose `requests` says what the model was taught.
      task: see `standard_prompt`.  Tasks that name tags themselves are not parsed.
      adjustments: requests beside those of the sentence.

    Raises:
      UserError: an adjustment that nobody can do, too many requests, or a bad task or text.
    """
    check_text("task", task)
    if text is not None:
        check_text("prompt", text)
    taught = TaughtRequests.parse(sampling.requests)
    full = text is not None and (has_placeholders(text) or not text.strip())
    if adjustments and (full or task not in STANDARD_TASKS):
        raise UserError("adjustments need a plain sentence, or none, and a task without tags")
    if text and text.strip() and full and task not in STANDARD_TASKS:
        standard_prompt(task, num_images)  # a task that is unknown is told so first
        raise UserError(
            f"task {task} has no effect: the prompt places the images itself, so no tag is written;"
            " leave the task out"
        )
    segment = None
    if taught.levels.get("segment"):
        segment = _segment_request(task)
    plain = standard_prompt(task if task in STANDARD_TASKS else "fuse", num_images)
    reads_sentences = not taught.levels or full or task not in STANDARD_TASKS
    if (reads_sentences or not text) and not adjustments:
        shown = segment if text is None or "{class}" in text else None
        return Instruction(standard_prompt(task, num_images, text), plain=plain, segment=shown)
    parsed = _parse(text) if text and not reads_sentences else ()
    requests = check_requests((*adjustments, *parsed))
    divided = taught.divide(requests, apply=sampling.apply_requests)
    for request, reason in divided.left_out:
        if request in adjustments:
            raise UserError(f"this model cannot do the adjustment {request}: {reason}")
    if text and reads_sentences:  # and was taught nothing by tags
        prompt = standard_prompt(task, num_images, text)
    elif divided.asked:
        prompt = requests_prompt(divided.asked, num_images)
    else:
        prompt = plain
    done = {subject(one): one for one in (*divided.asked, *divided.applied)}
    understood = describe(done[subject(one)] for one in requests if subject(one) in done)
    reasons = "; ".join(f"left out: {request}, {reason}" for request, reason in divided.left_out)
    (segment, *_) = [one for one in divided.asked if one.axis == "segment"] or [None]
    return Instruction(prompt, understood, reasons, divided.applied, plain, segment)


def _segment_request(task: str) -> Request | None:
    """Returns what a task asks a model to mark that was taught to mark classes.

    Raises:
      UserError: it names a class that the model does not know.
    """
    from ditfuse_jax.tasks.segmentation import STREET_CLASSES

    name, _, wanted = task.partition(":")
    if name != SEGMENT:
        return None
    standard = {synonym: synonyms[0] for synonyms in STREET_CLASSES for synonym in synonyms}
    asked = [one.strip() for one in wanted.split(" and ")] if wanted.strip() else []
    unknown = [one for one in asked if one not in standard]
    if unknown:
        names = ", ".join(synonyms[0] for synonyms in STREET_CLASSES)
        raise UserError(
            f"task {task}: this model was not taught the class {unknown[0]!r}: choose from {names}"
        )
    return Request("segment", classes=tuple(standard[one] for one in asked))


def _parse(text: str) -> tuple[Request, ...]:
    from ditfuse_jax.parser.parse import load_parser

    (parsed,) = load_parser()([text])
    return parsed.requests
