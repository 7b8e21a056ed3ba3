"""Phase congruency."""

import math

import numpy as np

from .structure import WINDOW
from .windows import same


def phase_congruency(image):
    """Kovesi's, as Liu's toolbox calls it: congruency, largest and smallest moment."""
    height, width = image.shape
    rows, columns = np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width
    low_pass = np.hypot(rows[:, None] / height, columns[None] / width)
    low_pass = 1 / (1 + (low_pass / 0.45) ** 30)
    y, x = rows[:, None] / (height - height % 2), columns[None] / (width - width % 2)
    radius, theta = np.hypot(y, x), np.arctan2(-y, x + 0 * y)
    radius[0, 0] = 1
    radial = []
    for scale in range(4):
        band = np.exp(-(np.log(radius * 3 * 2.1**scale) ** 2) / (2 * math.log(0.55) ** 2))
        band *= low_pass
        band[0, 0] = 0
        radial.append(band)
    spectrum, eps = np.fft.fft2(image), 1e-4
    energies = amplitudes = xx = yy = xy = 0.0
    for orientation in np.arange(6) * math.pi / 6:
        off = theta - orientation
        off = np.abs(np.arctan2(np.sin(off), np.cos(off)))
        spread = np.exp(-(off**2) / (2 * (math.pi / 6 / 1.2) ** 2))
        responses = [np.fft.ifft2(spectrum * band * spread) for band in radial]
        kernels = [np.fft.ifft2(band * spread).real * math.sqrt(height * width) for band in radial]
        amplitude = np.sum([np.abs(r) for r in responses], axis=0)
        even, odd = sum(r.real for r in responses), sum(r.imag for r in responses)
        length = np.hypot(even, odd) + eps
        even, odd = even / length, odd / length
        energy = sum(
            r.real * even + r.imag * odd - np.abs(r.real * odd - r.imag * even) for r in responses
        )
        power = np.median(np.abs(responses[0]) ** 2) / math.log(2)
        power /= ((radial[0] * spread) ** 2).sum()
        squares = sum((k**2).sum() for k in kernels)
        products = sum((kernels[i] * kernels[j]).sum() for i in range(4) for j in range(i + 1, 4))
        tau = math.sqrt((2 * power * squares + 4 * power * products) / 2)
        noise = tau * math.sqrt(math.pi / 2) + 2 * math.sqrt((2 - math.pi / 2) * tau**2)
        energy = np.maximum(energy - noise / 1.7, 0)
        largest = np.max([np.abs(r) for r in responses], axis=0)
        weight = 1 / (1 + np.exp(10 * (0.5 - amplitude / (largest + eps) / 4)))
        energies, amplitudes = energies + weight * energy, amplitudes + amplitude
        here = weight * energy / np.where(amplitude == 0, 1, amplitude)
        cos, sin = here * math.cos(orientation), here * math.sin(orientation)
        xx, yy, xy = xx + cos**2 / 3, yy + sin**2 / 3, xy + cos * sin / 6
    root = np.hypot(xy, xx - yy) + eps
    return energies / (amplitudes + eps), (xx + yy + root) / 2, (xx + yy - root) / 2


def phase_quality(fused, sources):
    own = phase_congruency(fused)
    a, b = (phase_congruency(source) for source in sources)
    first = a[0] > b[0]
    strongest = [np.where(first, x, y) for x, y in zip(a, b, strict=True)]
    masks = [features[0] > 0.1 for features in (a, b, strongest)]

    def mean(image):
        return same(image, WINDOW)

    value = 1.0
    for k in range(3):
        maps = []
        for features, mask in zip((a, b, strongest), masks, strict=True):
            x, y = features[k] * mask, own[k]
            covariance = mean(x * y) - mean(x) * mean(y)
            vx, vy = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
            local = (covariance + 1e-4) / (np.sqrt(np.abs(vx * vy)) + 1e-4)
            maps.append(np.where(mask, local, 0))
        value *= np.float64(np.max(maps, axis=0).sum()) / np.sum(masks[2])
    return value
