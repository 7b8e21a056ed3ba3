"""Which chroma a fused image may have: no more than its sources, unless the prompt asks for it.

The setting is `SamplingConfig.limit_chroma`.  Only the tags of a prompt are considered: a model for
which it is set gets them from `instructions.make_instruction`.
"""

from collections.abc import Sequence

import numpy as np

from ditfuse_jax.images import is_grey, limit_chroma
from ditfuse_jax.prompts import prompt_tags

OVERLAY = {"SEGMENT"}
MORE_CHROMA = {"SATURATION+", "SATURATION++", "DARK", "HAZY", "CAST"}


def with_asked_chroma(image: np.ndarray, sources: Sequence[np.ndarray], prompt: str) -> np.ndarray:
    """Limits the chroma of a fused image unless its prompt asks for more.

    Overlays are not limited.  Grey sources give a grey image otherwise.  With more saturation or
    with a repair that can bring back colour, images of coloured sources are not limited; with other
    requests the chroma may grow with the luma.

    Args:
      image: uint8 or uint16 (H, W, 3).
      sources: images of the same size.
      prompt: with placeholders; one without the tags of a fusion or of requests changes nothing.

    Returns:
      (H, W, 3), of the image's type.
    """
    task, tags = prompt_tags(prompt)
    if task not in ("FUSION", "CONTROL") or OVERLAY.intersection(tags):
        return image
    if MORE_CHROMA.intersection(tags) and not all(map(is_grey, sources)):
        return image
    return limit_chroma(image, sources, relative=task == "CONTROL")
