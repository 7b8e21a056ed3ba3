"""Frequencies, and edges kept."""

import math

import numpy as np

from .windows import same

SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def spatial_frequency(fused, sources=()):
    across, down = np.diff(fused, axis=1), np.diff(fused, axis=0)
    return np.sqrt((across**2).mean() + (down**2).mean())


def average_gradient(fused, sources=()):
    down, across = np.gradient(fused)
    height, width = fused.shape
    return np.sqrt((across**2 + down**2) / 2).sum() / ((height - 1) * (width - 1))


def edge_intensity(fused, sources=()):
    return np.hypot(same(fused, SOBEL, "edge"), same(fused, SOBEL.T, "edge")).mean()


def extended_spatial_frequency(fused, sources):
    def differences(image):
        yield 1.0, image[:, 1:] - image[:, :-1]
        yield 1.0, image[1:] - image[:-1]
        yield math.sqrt(0.5), image[1:, 1:] - image[:-1, :-1]
        yield math.sqrt(0.5), image[1:, :-1] - image[:-1, 1:]

    own = sum(weight * (d**2).sum() for weight, d in differences(fused))
    of_sources = 0.0
    for parts in zip(*(differences(source) for source in sources), strict=True):
        steepest = np.max([np.abs(d) for _, d in parts], axis=0)
        of_sources += parts[0][0] * (steepest**2).sum()
    return (np.sqrt(own) - np.sqrt(of_sources)) / np.sqrt(np.float64(of_sources))


def edges(image, mode="constant"):
    """Strength and orientation of the Sobel response."""
    x, y = same(image, SOBEL, mode), same(image, -SOBEL.T, mode)
    return np.hypot(x, y), np.where(x == 0, math.pi / 2, np.arctan(y / np.where(x == 0, 1, x)))


def logistic(value, gain, slope, centre):
    return gain / (1 + np.exp(slope * (value - centre)))


def qabf(fused, sources):
    strength_f, angle_f = edges(fused)
    above = below = 0.0
    for source in sources:
        strength, angle = edges(source)
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = np.where(low == high, low, low / np.where(high > 0, high, 1))
        alike = 1 - np.abs(angle - angle_f) / (math.pi / 2)
        kept = logistic(ratio, 0.9994, -15, 0.5) * logistic(alike, 0.9879, -22, 0.8)
        above, below = above + (kept * strength).sum(), below + strength.sum()
    return np.float64(above) / below


def kumar_parts(fused, sources):
    """Of each source: what is kept, the weight, and whether the fused edge is stronger."""

    def response(image):
        x, y = same(image, SOBEL, "reflect") / 8, same(image, SOBEL.T, "reflect") / 8
        angle = np.arctan(np.where(y == 0, np.where(x == 0, 0, np.inf * np.sign(x)), x / y))
        return np.hypot(x, y), angle

    strength_f, angle_f = response(fused)
    for source in sources:
        strength, angle = response(source)
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = np.where(low == 0, 0, low / np.where(high > 0, high, 1))
        alike = np.abs(np.abs(angle - angle_f) - math.pi / 2) * 2 / math.pi
        kept = np.sqrt(logistic(ratio, 0.9999, -19, 0.5) * logistic(alike, 0.9995, -22, 0.5))
        yield kept, np.where(strength >= 2, strength**1.5, 0.001), strength_f > strength


def kumar(fused, sources, judge):
    """The mean of judge(kept, stronger than all) over the sources' weighted pixels."""
    parts = list(kumar_parts(fused, sources))
    stronger = np.all([part[2] for part in parts], axis=0)
    total = sum((judge(kept, stronger) * weight).sum() for kept, weight, _ in parts)
    return total / sum(weight.sum() for _, weight, _ in parts)


def qabf_kumar(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: kept)


def loss(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: (1 - kept) * ~stronger)


def artefacts(fused, sources):
    return kumar(fused, sources, lambda kept, stronger: (1 - kept) * stronger)


def artefacts_petrovic(fused, sources):
    parts = list(kumar_parts(fused, sources))
    stronger = np.all([part[2] for part in parts], axis=0)
    weights = sum(weight for _, weight, _ in parts)
    lost = sum(1 - kept for kept, _, _ in parts)
    return np.sum(stronger * lost * weights) / np.sum(weights)


def local_edge_ratio(fused, sources):
    """Q_G: the mean over the pixels of local ratios."""
    tiny = 1e-5

    def response(image):
        x, y = same(image, SOBEL), same(image, SOBEL.T)
        return np.hypot(x, y), np.arctan(y / np.where(x == 0, tiny, x))

    strength_f, angle_f = response(fused)
    above = below = 0.0
    for source in sources:
        strength, angle = response(source)
        steeper = strength > strength_f
        strength = np.where(strength == 0, tiny, strength)
        own = np.where(strength_f == 0, tiny, strength_f)
        ratio = np.where(steeper, strength_f / strength, strength / own)
        alike = np.abs(np.abs(angle - angle_f) - math.pi / 2) * 2 / math.pi
        kept = logistic(ratio, 1, -10, 0.5) * logistic(alike, 1, -20, 0.75)
        above, below = above + kept * strength, below + strength
    return np.mean(above / below)


def multiscale_edges(fused, sources):
    """Q_M: two levels of the Haar wavelet."""

    def haar(image):
        height, width = (side - side % 2 for side in image.shape)
        image = image[:height, :width]
        a, b, c, d = image[::2, ::2], image[::2, 1::2], image[1::2, ::2], image[1::2, 1::2]
        return (a + b + c + d) / 2, [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]

    fused, value = np.asarray(fused), 1.0
    for exponent in (2 / 3, 1 / 3):
        fused, own = haar(fused)
        split = [haar(source) for source in sources]
        sources = [low for low, _ in split]
        above = below = 0.0
        for _, bands in split:
            kept = sum(np.exp(-np.abs(x - y)) for x, y in zip(bands, own, strict=True))
            weight = sum(band**2 for band in bands)
            above, below = above + np.sum(kept * weight), below + np.sum(weight)
        value *= (np.float64(above) / below) ** exponent
    return value
