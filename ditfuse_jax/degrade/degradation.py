"""What a degradation is: a pure function of a block of pixels and a generator."""

from collections.abc import Callable
from typing import Any

import numpy as np

Params = dict[str, Any]  # name -> float, int or str

# (uint8 (h, w, 3), generator) -> (the degraded block, new, same shape and type; what was drawn).
# Only the block's own pixels are seen, whatever lies around it in the image, and every random
# number comes from the generator, so equal seeds give equal bytes on any machine.
Degradation = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Params]]


def one_of(*degradations: Degradation) -> Degradation:
    """Returns the degradation that draws one of several, each as likely; `kind` tells which."""

    def drawn(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
        degradation = degradations[rng.integers(len(degradations))]
        degraded, params = degradation(block, rng)
        return degraded, {"kind": degradation.__name__, **params}

    return drawn
