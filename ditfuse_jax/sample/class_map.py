"""The class of every pixel, from a fusion in which the model marks all classes in their colours.

The colours of such an overlay are coarse and soft, and a mixture of two of them can equal a third:
half way from a road to its pavement lies the colour of the sky.  So the shares of the classes at a
pixel are a nonnegative least-squares solution that starts from the shares around it, by the
multiplicative updates of Lee and Seung (2001, "Algorithms for Non-negative Matrix Factorization"),
which stay near their start where several solutions exist.  A guided filter with the image as its
guide (He et al. 2013, "Guided Image Filtering"; computed at a lower resolution as in He and Sun
2015, "Fast Guided Filter") then puts the borders of the shares where the image has edges.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ditfuse_jax.degrade.overlay import COLOUR, OPACITY, PALETTE

NONE = len(PALETTE)  # the label of pixels that no class marks

# Lengths are fractions of the shorter side, at which the model sees a scene as a whole.
_SIDE = 180  # pixels of the shorter side at which shares are computed
_AROUND = 0.067  # half the side of the square whose shares the solution starts from
_WINDOW = 0.044  # half the side of the guided filter's windows
_DEVIATION = 0.12  # of a marked colour from its class's, in a value range of 1
_UPDATES = 5
_EPSILON = 1e-4  # variance of the guide, in a value range of 1, below which a window is flat
_SMALL = 0.02  # keeps updates of dark colours finite

_COLOURS = (PALETTE / 255).astype(np.float32)


def class_labels(
    marked: Sequence[np.ndarray],
    plain: np.ndarray,
    alone: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """Returns the class of every pixel.

    Args:
      marked: fusions in which all classes are marked, `uint8 (h, w, 3)` of any sizes; they count
        alike.
      plain: `uint8 (H, W, 3)`, the fusion of the same sources without marks.
      alone: class -> `uint8 (H, W, 3)`, a fusion in which only this class is marked: how strongly
        it is says as much of the class as the marks of all.

    Returns:
      uint8 (H, W): places in `PALETTE`, or `NONE`.
    """
    size = _reduced(plain.shape[0], plain.shape[1])
    below, above = _resized(plain, size), [_resized(image, size) for image in marked]
    colours = [np.clip((image - (1 - OPACITY) * below) / OPACITY, 0, 1) for image in above]
    shares = np.mean([class_shares(one, below) for one in colours], axis=0)
    for number, image in (alone or {}).items():
        share = (shares[..., number] + _marked_share(_resized(image, size), below)) / 2
        others = (1 - share) / np.maximum(1 - shares[..., number], 1e-6)
        shares *= others[..., None]
        shares[..., number] = share
    return _guided_labels(shares, below, plain)


def class_shares(colours: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Returns how much of each pixel belongs to each class.

    Args:
      colours: (h, w, 3) from 0 to 1, those that were laid over the image.
      plain: (h, w, 3) from 0 to 1, the image: what lies over it where nothing is marked.

    Returns:
      (h, w, K + 1) that sum to 1: the K classes of `PALETTE`, and none.
    """
    distances = [np.square(colours - colour).sum(-1) for colour in (*_COLOURS, plain)]
    squared = np.stack(distances, axis=-1)
    likely = np.exp((squared.min(-1, keepdims=True) - squared) / (2 * _DEVIATION**2))
    likely /= likely.sum(-1, keepdims=True)
    shares = _mean(likely, _AROUND) + np.float32(1e-4)

    def correlated(image: np.ndarray) -> np.ndarray:
        none = (image * plain).sum(-1, keepdims=True)
        return np.concatenate([image @ _COLOURS.T, none], axis=-1)

    wanted = correlated(colours) + _SMALL
    for _ in range(_UPDATES):
        mixed = shares[..., :-1] @ _COLOURS + shares[..., -1:] * plain
        shares *= wanted / (correlated(mixed) + _SMALL * shares.sum(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _marked_share(marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Returns how strongly one class is marked, (h, w) from 0 to 1, by least squares."""
    largest = OPACITY * (np.array(COLOUR, np.float32) / 255 - plain)
    strength = ((marked - plain) * largest).sum(-1)
    return np.clip(strength / np.maximum(np.square(largest).sum(-1), _SMALL), 0, 1)


def _guided_labels(shares: np.ndarray, below: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns the largest of the shares (h, w, K) after a guided filter, uint8 (H, W).

    `below`: the guide (h, w, 3) from 0 to 1; `image`: the same, uint8 (H, W, 3).
    """
    height, width = below.shape[:2]
    products = below[..., :, None] * below[..., None, :]
    mean, mean_shares = _mean(below, _WINDOW), _mean(shares, _WINDOW)
    variance = _mean(products.reshape(height, width, 9), _WINDOW).reshape(height, width, 3, 3)
    variance -= mean[..., :, None] * mean[..., None, :]
    variance += _EPSILON * np.eye(3, dtype=np.float32)
    moments = (below[..., :, None] * shares[..., None, :]).reshape(height, width, -1)
    covariance = _mean(moments, _WINDOW).reshape(height, width, 3, -1)
    covariance -= mean[..., :, None] * mean_shares[..., None, :]
    slopes = np.linalg.solve(variance, covariance)  # (h, w, 3, K)
    offsets = mean_shares - (mean[..., None, :] @ slopes)[..., 0, :]
    slopes = _mean(slopes.reshape(height, width, -1), _WINDOW).reshape(slopes.shape)
    offsets = _mean(offsets, _WINDOW)
    guide = image.astype(np.float32) / 255
    best = np.full(image.shape[:2], -np.inf, np.float32)
    labels = np.zeros(image.shape[:2], np.uint8)
    for number in range(shares.shape[-1]):  # one at a time: images may be large
        slope = _enlarged(slopes[..., number], image.shape[:2])
        share = (slope * guide).sum(-1) + _enlarged(offsets[..., number], image.shape[:2])
        labels[share > best] = number
        np.maximum(best, share, out=best)
    return labels


def _reduced(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, _SIDE / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 (H, W, 3) as float32 (h, w, 3) from 0 to 1."""
    values = image.astype(np.float32) / 255
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA)


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = np.ascontiguousarray(values)
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)


def _mean(values: np.ndarray, reach: float) -> np.ndarray:
    """Returns the means (h, w, C) over squares around every pixel."""
    radius = max(1, round(reach * min(values.shape[:2])))
    side = 2 * radius + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE)
