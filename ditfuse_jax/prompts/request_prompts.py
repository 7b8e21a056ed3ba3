"""The prompts of requests: a tag for each, and the classes and sources as words.

`[CONTROL]. <LIGHT+>. <CONTRAST-> road. This is the first image ...`.  A single request about the
brightness or contrast of the whole image, or to mark classes, has the prompt of DiTFuse.
"""

from collections.abc import Sequence

from ditfuse_jax.prompts.pools import INSTRUCTION_POOLS
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.prompts.template import SUBTASKS, join_instructions, task_prompt

_TONE_TAGS = {"brightness": "LIGHT", "contrast": "CONTRAST"}


def request_tag(request: Request) -> str:
    """Returns the tag of a request without brackets, such as `LIGHT++`, `DETAIL-` or `NOISY`."""
    if request.axis == "repair":
        assert request.defect is not None
        return request.defect.upper()
    sign = "+" if request.level > 0 else "-"
    return _TONE_TAGS.get(request.axis, request.axis.upper()) + sign * abs(request.level)


def requests_prompt(requests: Sequence[Request], num_images: int) -> str:
    """Returns the prompt that asks for one or more requests.

    Args:
      requests: at least one.
      num_images: number of source images.
    """
    fusion = INSTRUCTION_POOLS.find("fusion").sentences[0]
    if len(requests) == 1 and requests[0].axis == "segment":
        return _segmentation_prompt(requests[0], num_images)
    if len(requests) == 1 and not requests[0].classes:
        tag = request_tag(requests[0])
        pool = tag.lower().replace("+", "_plus").replace("-", "_minus")
        if tag in SUBTASKS["CONTROL"] and pool in INSTRUCTION_POOLS:
            sentence = INSTRUCTION_POOLS.find(pool).sentences[0]
            return task_prompt("CONTROL", tag, join_instructions(fusion, sentence), num_images)
    tags = " ".join(f"<{request_tag(one)}>{_words(one)}." for one in requests)
    # The introduction of the images follows the tags.
    return task_prompt("CONTROL", None, fusion, num_images).replace(". ", f". {tags} ", 1)


def _segmentation_prompt(request: Request, num_images: int) -> str:
    if not request.classes:
        sentence = INSTRUCTION_POOLS.find("scene").sentences[0]
    else:
        sentence = INSTRUCTION_POOLS.find("segmentation").sentences[0]
        sentence = sentence.replace("{class}", " and ".join(request.classes))
    return task_prompt("SEG", None, sentence, num_images)


def _words(request: Request) -> str:
    words = [*([request.role] if request.role else []), *request.classes]
    return f" {', '.join(words)}" if words else ""
