"""Visual information fidelity, Chen-Blum and Chen-Varshney."""

import math

import numpy as np

from .gradients import SOBEL
from .windows import filtered, gaussian, moments, same, stretched


def vif_scales(reference, image, noise):
    """Of four scales: information kept, information there, gain."""
    for scale in range(4):
        n = 2 ** (4 - scale) + 1
        window = gaussian(n, n / 5)
        if scale:
            reference, image = (filtered(x, window)[::2, ::2] for x in (reference, image))
        _, _, v1, v2, c = moments(reference, image, window)
        gain = c / (v1 + 1e-10)
        rest = v2 - gain * c
        for where, value in ((v1 < 1e-10, v2), (v2 < 1e-10, np.zeros_like(v2))):
            gain, rest = np.where(where, 0, gain), np.where(where, value, rest)
        v1 = np.where(v1 < 1e-10, 0, v1)
        rest = np.maximum(np.where(gain < 0, v2, rest), 1e-10)
        gain = np.maximum(gain, 0)
        yield np.log10(1 + gain**2 * v1 / (rest + noise)), np.log10(1 + v1 / noise), gain


def vif(reference, image):
    kept, there, _ = zip(*vif_scales(reference, image, 2.0), strict=True)
    return np.float64(sum(x.sum() for x in kept)) / sum(x.sum() for x in there)


def source_vif(fused, sources):
    return sum(vif(source, fused) for source in sources)


def vif_for_fusion(fused, sources):
    a, b = (list(vif_scales(source, fused, 0.005 * 255**2)) for source in sources)
    value = 0.0
    for weight, of_a, of_b in zip((1, 0, 0.15, 1), a, b, strict=True):
        first = of_a[2] < of_b[2]
        kept, there = (np.where(first, of_a[i], of_b[i]) + 1e-7 for i in (0, 1))
        value += weight / 2.15 * kept.sum() / there.sum()
    return value


def frequencies(shape):
    rows, columns = (np.fft.fftfreq(side) * side for side in shape)
    return np.hypot(rows[:, None], columns[None, :])


def through(image, response):
    return np.fft.ifft2(np.fft.fft2(image) * response).real


def chen_blum(fused, sources):
    r = frequencies(fused.shape) / 15
    response = np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))

    def contrast(image):
        image = through(stretched(image), response)
        fine, coarse = (same(image, gaussian(31, s) * gaussian_mass(31, s)) for s in (2.0, 4.0))
        local = np.abs(fine / coarse - 1)
        return local**3 / (local**2 + 1e-4)

    own = contrast(fused)
    above = below = 0.0
    for source in sources:
        c = contrast(source)
        above = above + c**2 * np.minimum(c, own) / np.maximum(c, own)
        below = below + c**2
    return np.mean(above / below)


def gaussian_mass(n, sigma):
    """What a sampled Gaussian of integral one sums to within its n x n window."""
    offsets = np.arange(n) - (n - 1) / 2
    return (np.exp(-(offsets**2) / (2 * sigma**2)).sum()) ** 2 / (2 * math.pi * sigma**2)


def chen_varshney(fused, sources):
    r = frequencies(fused.shape) / 4
    response = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))

    def blocks(image):
        image = np.pad(image, [(0, -side % 16) for side in image.shape])
        height, width = image.shape
        return image.reshape(height // 16, 16, width // 16, 16).sum(axis=(1, 3))

    fused, above, below = stretched(fused), 0.0, 0.0
    for source in map(stretched, sources):
        saliency = blocks(np.hypot(same(source, SOBEL), same(source, SOBEL.T)) ** 5)
        error = blocks(through(source - fused, response) ** 2) / 256
        above, below = above + (saliency * error).sum(), below + saliency.sum()
    return np.float64(above) / below
