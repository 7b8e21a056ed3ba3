"""Targets for fusion tasks that have no ground truth, made from the registered sources."""

from collections.abc import Callable, Sequence

import numpy as np


def mean(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the rounded mean of `uint8 (H, W, 3)` images of one size (DiTFuse's IVIF target)."""
    count = len(sources)
    total = np.zeros(sources[0].shape, np.uint32)
    for source in sources:
        total += source
    return ((total + count // 2) // count).astype(np.uint8)


PSEUDO_TARGETS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "mean": mean,
}
