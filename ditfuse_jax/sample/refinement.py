"""What is done with a fused image after sampling, by the kind of its sources.

The setting is `SamplingConfig.refine`.  The tags of the prompt tell the kind: only plain fusions
are refined, since a refinement would undo what a request has changed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.prompts import prompt_tags
from ditfuse_jax.registry import Registry
from ditfuse_jax.sample.exposure_tones import even_tones
from ditfuse_jax.sample.focus_choice import choose_focus

if TYPE_CHECKING:
    from ditfuse_jax.sample.instructions import Instruction

# (fused image, sources) -> image, all (H, W, 3), the image of its own type.
Refinement = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]

# By the tag of the prompt.
REFINEMENTS: Registry[Refinement] = Registry(
    "refinement", {"MULTI-FOCUS": choose_focus, "MULTI-EXPOSURE": even_tones}
)


def refined(image: np.ndarray, sources: Sequence[np.ndarray], prompt: str) -> np.ndarray:
    """Refines a fused image if its prompt asks for a plain fusion of a known kind of sources.

    Args:
      image: uint8 or uint16 (H, W, 3).
      sources: images of the same size.
      prompt: with placeholders.

    Returns:
      (H, W, 3), of the image's type.
    """
    refine = _refinement(prompt)
    return refine(image, sources) if refine and len(sources) > 1 else image


def check_refine(
    given: Mapping[str, Any],
    sampling: SamplingConfig,
    instructions: Iterable["Instruction"],
    region: bool = False,
) -> None:
    """Checks that a given setting `refine` changes an image of one of the instructions.

    Whatever fuses images with settings of a user calls this before it computes anything.

    Args:
      given: the settings that differ from the model's own; None stands for its own.
      sampling: with them.
      instructions: of all images.
      region: whether they apply to a region.

    Raises:
      UserError: none is a plain fusion of a kind that is refined.
    """
    if given.get("refine") is None or not sampling.refine:
        return
    prompts = set()
    for one in instructions:
        prompts.add(one.prompt)
        if region or one.requests:  # then there is the plain fusion, too
            prompts.add(one.plain)
    if not any(map(_refinement, prompts)):
        kinds = ", ".join(REFINEMENTS)
        raise UserError(
            f"refine has no effect: it changes plain fusions of known kinds ({kinds}), such as "
            "those of the tasks mff and mef: leave it out"
        )


def _refinement(prompt: str) -> Refinement | None:
    task, tags = prompt_tags(prompt)
    if task != "FUSION" or len(tags) != 1:
        return None
    return REFINEMENTS.get(tags[0])
