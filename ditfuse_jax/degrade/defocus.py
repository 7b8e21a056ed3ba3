"""Two photographs of one scene, focused on its foreground and on its background.

The scene has two layers.  The layer out of focus is convolved with a disc, in linear light; a
blurred foreground becomes transparent at its border, a blurred background does not spread over the
foreground (matte model of Ma et al. 2020).
"""

import dataclasses

import cv2
import numpy as np

RADIUS = (2.0, 7.0)  # of the blur disc, in pixels of a 256-pixel side
_GAMMA = 2.2
_TO_LIGHT = ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)
_TO_DISPLAY = np.rint(255 * np.linspace(0, 1, 1 << 16) ** (1 / _GAMMA)).astype(np.uint8)

_COVERAGE = (0.2, 0.8)  # fraction of the image that the foreground covers


@dataclasses.dataclass(frozen=True, eq=False)
class FocusPair:
    """Two focus settings of one scene.

    Attributes:
      near: foreground in focus, `uint8 (H, W, 3)`.
      far: background in focus, the same shape.
      front: bool (H, W), True in the foreground.
    """

    near: np.ndarray
    far: np.ndarray
    front: np.ndarray


def focus_pair(image: np.ndarray, rng: np.random.Generator) -> FocusPair:
    """Returns two focus settings of a sharp `uint8 (H, W, 3)` image."""
    height, width = image.shape[:2]
    front = front_mask(height, width, rng)
    scale = min(height, width) / 256
    kernels = [disc(radius * scale) for radius in rng.uniform(*RADIUS, size=2)]
    light = _TO_LIGHT[image]
    cover = front.astype(np.float32)[..., None]

    behind = _spread(light, 1 - cover, kernels[0])
    near = cover * light + (1 - cover) * behind

    back = _continued(light, front, kernels[1])
    veil = _blur(cover, kernels[1])[..., None]
    far = veil * _spread(light, cover, kernels[1]) + (1 - veil) * back
    return FocusPair(_display(near), _display(far), front)


def front_mask(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random foreground, bool (H, W): smooth regions, or one side of an uneven line."""
    if rng.random() < 0.5:  # smooth regions: low frequencies above a threshold
        grid = int(rng.integers(2, 6))
        field = cv2.resize(
            rng.standard_normal((grid + 1, grid + 1)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
    else:  # one side of an uneven line
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        bumps = cv2.resize(
            rng.standard_normal((6, 6)).astype(np.float32), (width, height), interpolation=2
        )
        field = (np.cos(angle) * x / width + np.sin(angle) * y / height) + 0.08 * bumps
    level = np.quantile(field, 1 - rng.uniform(*_COVERAGE))
    return field > level


def disc(radius: float) -> np.ndarray:
    """Returns a filled disc that sums to one, antialiased over a pixel, float32 (n, n)."""
    half = int(np.ceil(radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _continued(light: np.ndarray, front: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the blurred background, continued under the foreground by its nearest pixels."""
    _, labels = cv2.distanceTransformWithLabels(
        front.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = labels.astype(np.intp)
    seen = np.zeros((nearest.max() + 1, 3), np.float32)
    seen[nearest[~front]] = light[~front]  # every background pixel has a label
    return np.where(front[..., None], _blur(seen[nearest], kernel), light)


def _spread(light: np.ndarray, cover: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the blur of the pixels in `cover` alone (normalized convolution)."""
    weight = _blur(cover, kernel)[..., None]
    return _blur(light * cover, kernel) / np.maximum(weight, 1e-3)


def _blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _display(light: np.ndarray) -> np.ndarray:
    steps = np.clip(light, 0, 1) * np.float32(len(_TO_DISPLAY) - 1)
    return _TO_DISPLAY[np.rint(steps).astype(np.int32)]
