"""Feature mutual information."""

import math

import numpy as np

from .gradients import SOBEL
from .windows import same


def bits_of(p):
    """Zero and negative parts as that code counts them."""
    return sum(-v * math.log2(abs(v)) for v in np.ravel(p) if v != 0)


def window_information(x, f):
    """2 MI / (H + H) of two 3 x 3 windows."""
    if (x == f).all():
        return 1.0

    def distribution(window):
        cells = window.T.ravel()  # column by column
        low, high = cells.min(), cells.max()
        cells = np.ones(9) if low == high else (cells - low) / (high - low)
        return cells / cells.sum()

    def spread(p):
        place = np.arange(9)
        return math.sqrt((p * (place - (p * place).sum()) ** 2).sum())

    p, q = distribution(x), distribution(f)
    a, b = p - 1 / 9, q - 1 / 9
    flat = np.ptp(x) == 0 or np.ptp(f) == 0
    c = 0.0 if flat else (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())
    above, below = np.cumsum(p), np.cumsum(q)
    bound = np.minimum.outer(below, above) if c >= 0 else np.add.outer(below, above) - 1
    bound = np.maximum(bound, 0)
    covariance = (bound - np.outer(below, above)).sum()
    spreads = spread(p) * spread(q)
    weight = c * spreads / covariance if c and spreads else 0.0
    corner = np.pad(bound, ((1, 0), (1, 0)))
    extreme = corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]
    extreme = np.where(np.abs(extreme) < 1e-14, 0, extreme)
    both = weight * extreme + (1 - weight) * np.outer(q, p)
    apart = bits_of(p) + bits_of(q)
    shared = apart - bits_of(both)
    return 2 * shared / apart if abs(shared) > 1e-12 else 0.0


def feature_information(feature):
    def information(fused, sources):
        f, total = feature(fused), []
        for x in map(feature, sources):
            for i in range(f.shape[0] - 2):
                for j in range(f.shape[1] - 2):
                    where = slice(i, i + 3), slice(j, j + 3)
                    total.append(window_information(x[where], f[where]))
        return np.mean(total)

    return information


def sobel_edges(image):
    """MATLAB's edge(image), pixel by pixel."""
    x, y = same(image, SOBEL, "edge"), same(image, SOBEL.T, "edge")
    strength, edges = x**2 + y**2, np.zeros(image.shape)
    for (i, j), s in np.ndenumerate(strength):

        def at(row, column):
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            return strength[row, column] if inside else -1

        along_x = abs(x[i, j]) >= abs(y[i, j]) and at(i, j - 1) <= s > at(i, j + 1)
        along_y = abs(y[i, j]) >= abs(x[i, j]) and at(i - 1, j) <= s > at(i + 1, j)
        edges[i, j] = s > 4 * np.mean(strength) and (along_x or along_y)
    return edges


def cosine_transform(image):
    def matrix(n):
        k, x = np.arange(n)[:, None], np.arange(n)[None, :]
        rows = np.cos(math.pi * k * (2 * x + 1) / (2 * n)) * math.sqrt(2 / n)
        rows[0] /= math.sqrt(2)
        return rows

    return matrix(image.shape[0]) @ image @ matrix(image.shape[1]).T
