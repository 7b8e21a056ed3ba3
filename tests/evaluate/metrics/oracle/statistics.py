"""Correlations and squared errors."""

import numpy as np


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return np.float64((a * b).mean()) / np.sqrt((a * a).mean() * (b * b).mean())


def difference_correlation(fused, sources):
    a, b = sources
    return correlation(fused - b, a) + correlation(fused - a, b)


def mean_squared_error(fused, sources):
    return np.mean([(fused - source) ** 2 for source in sources])


def psnr(fused, sources):
    return 10 * np.log10(255**2 / mean_squared_error(fused, sources))
