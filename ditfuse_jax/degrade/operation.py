"""What a degradation is: a pure function of a block of pixels and a generator."""

from collections.abc import Callable
from typing import Any

import numpy as np

Params = dict[str, Any]  # name -> float, int or str

# (uint8 (h, w, 3), generator) -> (the degraded block, new, same shape and type; what was drawn).
# Only the block's own pixels are seen, whatever lies around it in the image, and every random
# number comes from the generator, so equal seeds give equal bytes on any machine.
Operation = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Params]]


def one_of(*operations: Operation) -> Operation:
    """Returns the operation that draws one of several, each as likely; `kind` tells which."""

    def drawn(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
        operation = operations[rng.integers(len(operations))]
        degraded, params = operation(block, rng)
        return degraded, {"kind": operation.__name__, **params}

    return drawn
