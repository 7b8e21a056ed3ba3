"""M3 as a plain script: image by image, block by block, with the views written to files.

The baseline that the pipeline's M3 is measured against.  The degradations are those of
docs/method.md.
"""

from pathlib import Path

import cv2
import numpy as np

_SIDES = (32, 64, 128)
_KERNELS = (3, 5, 7, 9, 11)


def write_views(path: Path, folder: Path, rng: np.random.Generator) -> None:
    """Reads a photograph and writes two degraded views of it as PNG files."""
    image = cv2.imread(str(path))
    assert image is not None
    view_a, view_b = image.copy(), image.copy()
    side = int(rng.choice(_SIDES))
    height, width = image.shape[:2]
    for top in range(0, height, side):
        for left in range(0, width, side):
            where = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            operation = rng.choice(["mask", "blur", "noise"])
            if rng.random() < 0.25:
                view_a[where] = degrade(image[where], operation, rng)
                view_b[where] = degrade(image[where], operation, rng)
            elif rng.random() < 0.5:
                view_a[where] = degrade(image[where], operation, rng)
            else:
                view_b[where] = degrade(image[where], operation, rng)
    cv2.imwrite(str(folder / f"{path.stem}_a.png"), view_a)
    cv2.imwrite(str(folder / f"{path.stem}_b.png"), view_b)


def degrade(block: np.ndarray, operation: str, rng: np.random.Generator) -> np.ndarray:
    """Returns a degraded copy of a block."""
    if operation == "mask":
        return rng.integers(0, 256, block.shape, dtype=np.uint8)
    if operation == "blur":
        kernel = int(rng.choice(_KERNELS))
        kind = rng.choice(["gaussian", "box", "median"])
        if kind == "gaussian":
            return cv2.GaussianBlur(block, (kernel, kernel), float(rng.uniform(0.8, 3.0)))
        if kind == "box":
            return cv2.blur(block, (kernel, kernel))
        return cv2.medianBlur(np.ascontiguousarray(block), kernel)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(10, 35), block.shape)
        return np.clip(block + noise, 0, 255).astype(np.uint8)
    noisy = block.copy()
    drawn = rng.random(block.shape[:2])
    share = rng.uniform(0.01, 0.03)
    noisy[drawn < share / 2] = 0
    noisy[drawn > 1 - share / 2] = 255
    return noisy
