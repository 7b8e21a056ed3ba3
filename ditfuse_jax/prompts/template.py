"""The prompt template: tags, the introduction of the images, the chat frame, the placeholders.

A prompt reads `[TASK]. <SUBTASK>. This is the first image <img><|image_1|></img>, and this is the
second image <img><|image_2|></img>. {instruction}` and is wrapped in OmniGen's chat frame
(arXiv 2409.11340).  The tokens of image k replace `<|image_k|>`.
"""

import re
from dataclasses import dataclass

from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry

# A new tag is one entry here; then run data/build_tokenizer.py, which appends its token.
_SUBTASKS: dict[str, list[str]] = {
    "FUSION": ["MULTI-MODALITIES", "MULTI-FOCUS", "MULTI-EXPOSURE"],
    "CONTROL": [
        # DiTFuse's; the others are this project's, see `request_prompts`.
        *("LIGHT++", "LIGHT+", "LIGHT-", "LIGHT--", "CONTRAST+", "CONTRAST-"),
        *("CONTRAST++", "CONTRAST--"),
        *("SATURATION++", "SATURATION+", "SATURATION-", "SATURATION--"),
        *("DETAIL++", "DETAIL+", "DETAIL-", "DETAIL--"),
        *("EMPHASIS++", "EMPHASIS+", "EMPHASIS-", "EMPHASIS--"),
        *("DARK", "NOISY", "HAZY", "BLURRED", "CAST", "STRIPES"),
        "SEGMENT",
    ],
    "SEG": [],
}

SUBTASKS: Registry[list[str]] = Registry("prompt task", _SUBTASKS)
"""The tasks, and the subtasks of each (without their brackets); see `register_tag`."""

CONDITION_DROPPED = "<cfg>"
"""The prompt that replaces instruction and images when the condition is dropped."""

MAX_IMAGES = 4
_ORDINALS = ("first", "second", "third", "fourth")

_FRAME_HEAD = "<|user|>\nGenerate an image according to the following instructions\n"
_FRAME_TAIL = "<|end|>\n<|assistant|>\n<|diffusion|>"
_TAGS = re.compile(r"\[([A-Z]+)\]\. ((?:<[A-Z+-]+>[a-z, ]*\. )*)")
_PLACEHOLDER = re.compile(r"<\|image_([0-9]+)\|>")

SPECIAL_TOKENS: tuple[str, ...] = (
    *("<pad>", "<s>", "</s>", "<|endoftext|>"),
    *("<|user|>", "<|end|>", "<|assistant|>", "<|diffusion|>", "<img>", "</img>"),
    *(f"<|image_{k}|>" for k in range(1, MAX_IMAGES + 1)),
    CONDITION_DROPPED,
    *(f"[{task}]" for task in _SUBTASKS),
    *(f"<{subtask}>" for subtasks in _SUBTASKS.values() for subtask in subtasks),
)
"""The special tokens of the shipped tokenizer, which are never split."""


def register_tag(task: str, subtask: str | None = None) -> None:
    """Adds a task to the tags of prompts, or a subtask to a new or existing task.

    The shipped tokenizer encodes a registered tag like other text, in several tokens, so the ids of
    its tokens do not change.

    Raises:
      UserError: a tag has other characters than `A-Z`, or a subtask other than `A-Z`, `+` and `-`.
    """
    if not re.fullmatch(r"[A-Z]+", task):
        raise UserError(f"prompt task {task!r} must consist of the letters A to Z")
    if subtask is not None and not re.fullmatch(r"[A-Z+-]+", subtask):
        raise UserError(f"prompt subtask {subtask!r} must consist of A to Z, + and -")
    if task not in SUBTASKS:
        SUBTASKS.register(task, [])
    if subtask is not None and subtask not in SUBTASKS[task]:
        SUBTASKS[task].append(subtask)


def special_tokens() -> list[str]:
    """Returns the special tokens of this package and one for each tag registered since."""
    registered = [f"[{task}]" for task in SUBTASKS]
    registered += [f"<{subtask}>" for subtasks in SUBTASKS.values() for subtask in subtasks]
    return list(dict.fromkeys((*SPECIAL_TOKENS, *registered)))


@dataclass(frozen=True)
class SplitPrompt:
    """The text around the image slots of a prompt.

    Attributes:
      segments: n+1 texts, which include `<img>` and `</img>` but not the placeholders.
      order: for each placeholder the index of its image, from 0.
    """

    segments: tuple[str, ...]
    order: tuple[int, ...]


def task_prompt(task: str, subtask: str | None, instruction: str, num_images: int = 2) -> str:
    """Returns the prompt that introduces the images and gives the instruction.

    Args:
      task: a key of `SUBTASKS`, e.g. "FUSION".
      subtask: one of the task's subtasks, e.g. "MULTI-FOCUS", or None to omit it.
      instruction: text without image placeholders.
      num_images: 1 to `MAX_IMAGES`.

    Raises:
      UserError: unknown tag, no instruction, placeholders in it, or too many images.
    """
    if task not in SUBTASKS:
        raise UserError(f"unknown task {task!r}: choose one of {', '.join(SUBTASKS)}")
    if subtask is not None and subtask not in SUBTASKS[task]:
        known = ", ".join(SUBTASKS[task]) or "none"
        raise UserError(f"task {task} has no subtask {subtask!r}: choose from {known}")
    if not 1 <= num_images <= MAX_IMAGES:
        raise UserError(f"cannot introduce {num_images} images: give 1 to {MAX_IMAGES}")
    instruction = instruction.strip()
    if not instruction:
        raise UserError("the instruction is empty: describe the result")
    if found := _PLACEHOLDER.search(instruction):
        raise UserError(
            f"the instruction {instruction!r} contains {found[0]}: remove the placeholder, or give "
            "the complete prompt"
        )
    tags = f"[{task}]. " if subtask is None else f"[{task}]. <{subtask}>. "
    return f"{tags}{_introduction(num_images)} {instruction}"


def join_instructions(first: str, second: str) -> str:
    """Joins two instructions, with a full stop between them unless the first ends a sentence."""
    end = "" if first[-1] in ".!?;:" else "."
    return f"{first}{end} {second}"


def as_prompt(text: str, num_images: int, task: str = "FUSION", subtask: str | None = None) -> str:
    """Returns the prompt of a user's text: a plain sentence is passed to `task_prompt`.

    A text with image placeholders is a complete prompt and returned unchanged.

    Raises:
      UserError: see `task_prompt` for a sentence, `split_prompt` for a complete prompt.
    """
    if not has_placeholders(text):
        return task_prompt(task, subtask, text, num_images)
    split_prompt(text, num_images)
    return text


def without_tags(prompt: str) -> str:
    """Replaces the tags of a prompt of `task_prompt` by those that `as_prompt` gives to a sentence.

    Other prompts are returned unchanged.
    """
    return _TAGS.sub("[FUSION]. ", prompt, count=1) if _TAGS.match(prompt) else prompt


def prompt_tags(prompt: str) -> tuple[str, tuple[str, ...]]:
    """Returns the task of a prompt and its subtasks, without brackets; empty if it has none."""
    found = _TAGS.match(prompt)
    return (found[1], tuple(re.findall(r"<([A-Z+-]+)>", found[2]))) if found else ("", ())


def image_only_prompt(num_images: int) -> str:
    """Returns the prompt of the guidance branch that sees the images but no instruction."""
    return " ".join(_image(k) for k in range(1, num_images + 1))


def frame(prompt: str) -> str:
    """Returns the prompt in the chat frame, the model's input format.

    Raises:
      UserError: it is framed already.
    """
    if prompt.startswith(_FRAME_HEAD):
        raise UserError("the prompt is in the chat frame already: give only the text inside it")
    return f"{_FRAME_HEAD}{prompt}{_FRAME_TAIL}"


def has_placeholders(prompt: str) -> bool:
    """Returns whether a prompt contains image placeholders."""
    return _PLACEHOLDER.search(prompt) is not None


def split_prompt(prompt: str, num_images: int) -> SplitPrompt:
    """Splits a prompt, framed or not, at its placeholders `<|image_k|>`, k from 1 to `num_images`.

    The images may come in any order, and one may be placed several times.

    Raises:
      UserError: a placeholder is missing or names a missing image, or there are more than
        `MAX_IMAGES`.
    """
    cut = _PLACEHOLDER.split(prompt)  # text, number, text, number, ..., text
    numbers = [int(number) for number in cut[1::2]]
    for number in numbers:
        if not 1 <= number <= num_images:
            raise UserError(
                f"the prompt places <|image_{number}|> but the number of images is {num_images}: "
                "remove the placeholder or add the image"
            )
    if len(numbers) > MAX_IMAGES:
        raise UserError(
            f"the prompt places {len(numbers)} images, repetitions included: at most {MAX_IMAGES} "
            "are supported; refer to repeated images by text"
        )
    for number in range(1, num_images + 1):
        if number not in numbers:
            raise UserError(
                f"the prompt does not place image {number} of {num_images}: add {_image(number)}"
            )
    return SplitPrompt(tuple(cut[0::2]), tuple(number - 1 for number in numbers))


def _introduction(num_images: int) -> str:
    if num_images == 1:
        return f"This is the image {_image(1)}."
    parts = [f"this is the {_ORDINALS[k]} image {_image(k + 1)}" for k in range(num_images)]
    parts[-1] = f"and {parts[-1]}"
    return f"T{', '.join(parts)[1:]}."


def _image(number: int) -> str:
    return f"<img><|image_{number}|></img>"
