"""Entropies of histograms."""

import numpy as np


def bits(p):
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def histogram(image):
    return np.bincount(image.astype(int).ravel(), minlength=256) / image.size


def joint(a, b):
    pairs = a.astype(int) * 256 + b.astype(int)
    return (np.bincount(pairs.ravel(), minlength=65536) / a.size).reshape(256, 256)


def entropy(fused, sources=()):
    return bits(histogram(fused))


def shared_bits(a, b):
    return bits(histogram(a)) + bits(histogram(b)) - bits(joint(a, b))


def mutual_information(fused, sources):
    return sum(shared_bits(source, fused) for source in sources)


def normalised_mutual_information(fused, sources):
    return 2 * sum(
        np.float64(shared_bits(x, fused)) / (entropy(x) + entropy(fused)) for x in sources
    )


def cross_entropy(fused, sources):
    total = 0.0
    for source in sources:
        p, q = histogram(source), histogram(fused)
        both = (p > 0) & (q > 0)
        total += (p[both] * np.log2(p[both] / q[both])).sum()
    return total / len(sources)


def tsallis(a, b, q):
    p = joint(a, b)
    product = histogram(a)[:, None] * histogram(b)[None, :]
    there = p > 0
    return (1 - (p[there] ** q / product[there] ** (q - 1)).sum()) / (1 - q)


def tsallis_cvejic(fused, sources):
    return sum(tsallis(source, fused, 1.85) for source in sources)


def tsallis_nava(fused, sources):
    q, (a, b) = 0.43137, sources
    shared = tsallis(a, fused, q) + tsallis(b, fused, q)
    there = entropy(a) ** q + entropy(b) ** q + tsallis(a, b, q)
    return np.float64(round(shared, 12)) / round(there, 12)  # what is zero, exactly zero


def nonlinear_correlation(fused, sources):
    images = [*sources, fused]
    n = len(images)
    matrix = np.eye(n)
    for i in range(n):
        for j in range(n):
            if i != j:
                matrix[i, j] = shared_bits(images[i], images[j]) / 8
    shares = np.linalg.eigvalsh(matrix) / n
    return 1 - bits(shares) / 8
