"""The interface of degradations: pure functions of a block of pixels and a generator."""

from collections.abc import Callable
from typing import Any

import numpy as np

Params = dict[str, Any]  # name -> float, int or str

# (uint8 (h, w, 3), generator) -> (new degraded block of the same shape and type, drawn parameters).
# A degradation depends on the block's pixels and the generator alone, so equal seeds give equal
# bytes on every machine.
Degradation = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Params]]


def one_of(*degradations: Degradation) -> Degradation:
    """Returns a degradation that draws one of several uniformly, named by its parameter `kind`."""

    def drawn(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
        degradation = degradations[rng.integers(len(degradations))]
        degraded, params = degradation(block, rng)
        return degraded, {"kind": degradation.__name__, **params}

    return drawn
