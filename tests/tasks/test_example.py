"""Examples: what a task may return."""

import numpy as np
import pytest

from ditfuse_jax.errors import ContractError
from ditfuse_jax.tasks import Example

IMAGE = np.full((4, 4, 3), 9, np.uint8)


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (IMAGE / 255, r"float64 \(4, 4, 3\)"),
        (IMAGE.astype(np.uint16), r"uint16 \(4, 4, 3\)"),
        (IMAGE[..., 0], r"uint8 \(4, 4\)"),
        (IMAGE.tolist(), "list"),
    ],
)
def test_its_images_are_bytes(image, got):
    Example((IMAGE, IMAGE), "Merge.", IMAGE)
    with pytest.raises(ContractError, match=f"example's target must be a uint8 array .* {got}"):
        Example((IMAGE, IMAGE), "Merge.", image)
    with pytest.raises(ContractError, match=f"example's source 2 must be a uint8 array .* {got}"):
        Example((IMAGE, image), "Merge.", IMAGE)
