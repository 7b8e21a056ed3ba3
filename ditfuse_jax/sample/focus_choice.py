"""Multi-focus fusion that chooses: most pixels are exactly those of one source.

The model weights the sources' frequency bands, and along borders of focus it mixes them.  Where its
result clearly has the detail of one source, that source's pixels are what is wanted.  Elsewhere, as
on walls without texture, the model's pixels stay: a choice by noise would be a patchwork there.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ditfuse_jax.images import unit_luma, with_depth
from ditfuse_jax.images.guided_filter import guided_filter

# In pixels of an image whose longer side is _SIDE; larger images are smoothed more.
_SIDE = 640
_LARGEST_SCALE = 4.0
_DETAIL_SIGMA = 8.0  # what varies more slowly is not detail
_WINDOW_SIGMA = 2.0  # in which details are compared
_CLEAR = 0.5  # ratio of the two least distances below which the choice is clear
_BORDER_RADIUS = 2  # of the guided filter of the weights
_BORDER_EPSILON = 1e-3  # of luma in 0..1
_ISLAND = 0.002  # regions below this share of the image follow what surrounds them, unless
_SHARPER = 1.5  # their own source has so many times the energy of detail there
_DECISION_SIDE = 1280  # pixels of the longer side of the map of decisions
_STRIP = 512  # rows: the float images take many times the memory of an 8-bit one


def choose_focus(image: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """Replaces a fused image by the source whose detail it has, place by place.

    Args:
      image: the fused image, uint8 or uint16 (H, W, 3).
      sources: images of its size, of 8 or 16 bits each.

    Returns:
      (H, W, 3), of the image's type.
    """
    depth = image.dtype.itemsize * 8
    chosen = _chosen_source(image, sources)
    height, width = image.shape[:2]
    columns = _nearest(slice(0, width), width, chosen.shape[1])
    radius = round(_BORDER_RADIUS * _scale(image))
    result = np.empty_like(image)
    for rows, wide in _strips(height, 2 * radius):
        choice = chosen[np.ix_(_nearest(wide, height, chosen.shape[0]), columns)]
        guide = unit_luma(image[wide])
        mixed = np.zeros((rows.stop - rows.start, width, 3), np.float32)
        total = np.zeros((*mixed.shape[:2], 1), np.float32)
        for k, source in enumerate((*sources, image)):
            share = (choice == k).astype(np.float32)
            weight = guided_filter(share, guide, radius, _BORDER_EPSILON)
            weight = np.clip(weight[rows.start - wide.start :][: len(mixed), :, None], 0, 1)
            mixed += weight * with_depth(source[rows], depth)
            total += weight
        result[rows] = np.rint(mixed / total)
    return result


def _scale(image: np.ndarray) -> float:
    return float(np.clip(max(image.shape[:2]) / _SIDE, 1.0, _LARGEST_SCALE))


def _strips(height: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """Yields the rows of each strip, and the same with rows above and below."""
    for top in range(0, height, _STRIP):
        stop = min(top + _STRIP, height)
        yield slice(top, stop), slice(max(top - margin, 0), min(stop + margin, height))


def _nearest(places: slice, side: int, small: int) -> np.ndarray:
    """Returns the places of a side's pixels among those of a smaller side."""
    return np.arange(places.start, places.stop) * small // side


def _chosen_source(image: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the index of the source whose detail is nearest, uint8 (h, w), h <= H and w <= W.

    Where no source is clearly nearer than the others, the index is their number.
    """
    height, width = image.shape[:2]
    scale = _scale(image)
    ratio = min(1.0, _DECISION_SIDE / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    narrow = np.empty((2, len(sources), height, size[0]), np.float32)
    # A Gaussian of OpenCV ends at four times its sigma.
    for rows, wide in _strips(height, round(4 * _DETAIL_SIGMA * scale) + 1):
        own = slice(rows.start - wide.start, rows.stop - wide.start)
        wanted = _detail(image[wide], scale)[own]
        for k, source in enumerate(sources):
            detail = _detail(source[wide], scale)[own]
            for place, values in enumerate(((detail - wanted) ** 2, detail**2)):
                strip = cv2.resize(values, (size[0], len(values)), interpolation=cv2.INTER_AREA)
                narrow[place, k, rows] = strip
    sigma = _WINDOW_SIGMA * scale * ratio
    distances, energies = (
        [_smoothed(cv2.resize(x, size, interpolation=cv2.INTER_AREA), sigma) for x in of_sources]
        for of_sources in narrow
    )
    chosen = np.argmin(distances, axis=0).astype(np.uint8)
    for k in range(len(sources)):
        chosen = _without_islands(chosen, k, energies)
    nearest, second = np.sort(distances, axis=0)[:2]
    return np.where(nearest <= _CLEAR * second, chosen, len(sources)).astype(np.uint8)


def _detail(image: np.ndarray, scale: float) -> np.ndarray:
    luma = unit_luma(image)
    return luma - _smoothed(luma, _DETAIL_SIGMA * scale)


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _without_islands(chosen: np.ndarray, index: int, energies: Sequence[np.ndarray]) -> np.ndarray:
    """Gives small regions of a source that is no sharper there to what surrounds them most."""
    mask = (chosen == index).astype(np.uint8)
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    result = chosen.copy()
    for region in range(1, count):
        x, y, width, height, area = boxes[region]
        if area >= _ISLAND * chosen.size:
            continue
        box = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
        inside = regions[box] == region
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        ring = chosen[box][near & (chosen[box] != index)]
        if not ring.size:
            continue
        other = int(np.bincount(ring).argmax())
        own, others = (energies[k][box][inside].mean() for k in (index, other))
        if own <= _SHARPER * others:
            result[box][inside] = other
    return result
