"""What is done with a fused image after sampling, by the kind of its sources.

The setting is `SamplingConfig.refine`.  The tags of the prompt tell the kind: only plain fusions
are refined, since a refinement would undo what a request has changed.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ditfuse_jax.prompts import prompt_tags
from ditfuse_jax.registry import Registry
from ditfuse_jax.sample.exposure_tones import even_tones
from ditfuse_jax.sample.focus_choice import choose_focus

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
    task, tags = prompt_tags(prompt)
    if task != "FUSION" or len(tags) != 1 or tags[0] not in REFINEMENTS:
        return image
    return REFINEMENTS[tags[0]](image, sources)
