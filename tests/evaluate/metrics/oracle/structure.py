"""Structural similarity and its relatives."""

import math

import numpy as np

from .windows import gaussian, halved, moments, same

WINDOW = gaussian(11, 1.5)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim_parts(x, y, window=WINDOW, c1=C1, c2=C2):
    mx, my, vx, vy, c = moments(x, y, window)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * c + c2) / (vx + vy + c2)


def ssim_map(x, y, window=WINDOW, c1=C1, c2=C2):
    luminance, structure = ssim_parts(x, y, window, c1, c2)
    return luminance * structure


def ssim(x, y):
    return ssim_map(x, y).mean()


def source_ssim(fused, sources):
    return np.mean([ssim(fused, source) for source in sources])


def multiscale_ssim(fused, sources):
    def one(x, y):
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            luminance, structure = ssim_parts(x, y)
            mean = (luminance * structure if scale == 4 else structure).mean()
            value *= max(mean, 0) ** weight
            x, y = halved(x), halved(y)
        return value

    return np.mean([one(fused, source) for source in sources])


def mef_ssim(fused, sources):
    """Patch by patch."""
    n, c = 11, (0.03 * 255) ** 2
    height, width = (side - n + 1 for side in fused.shape)
    quality = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            f = fused[i : i + n, j : j + n]
            patches = [source[i : i + n, j : j + n] for source in sources]
            detail = [patch - patch.mean() for patch in patches]
            norms = [np.linalg.norm(d) for d in detail]
            contrast = [norm + 0.001 for norm in norms]
            eps = np.finfo(float).eps
            consistency = (np.linalg.norm(sum(detail)) + eps) / (sum(norms) + eps)
            power = min(math.tan(math.pi / 2 * min(consistency, 1 - eps)), 10)
            weights = [(e / n) ** power + eps for e in contrast]
            desired = sum(
                w / sum(weights) * d / e for w, d, e in zip(weights, detail, contrast, strict=True)
            )
            if np.linalg.norm(desired) > 0:
                desired = desired / np.linalg.norm(desired) * max(contrast)
            r, f = desired - (WINDOW * desired).sum(), f - (WINDOW * f).sum()
            vr, vf, cov = ((WINDOW * p).sum() for p in (r * r, f * f, r * f))
            quality[i, j] = (2 * cov + c) / (vr + vf + c)
    return quality.mean()


def multiscale_mef_ssim(fused, sources):
    weights, value = np.array([0.0448, 0.2856, 0.3001]), 1.0
    for weight in weights / weights.sum():
        value *= max(mef_ssim(fused, sources), 0) ** weight
        fused, sources = halved(fused), [halved(source) for source in sources]
    return value


def share(a, b):
    """a / (a + b), one half where both are zero."""
    return np.where(a + b == 0, 0.5, a / np.where(a + b == 0, 1, a + b))


def piella_parts(fused, sources):
    a, b = sources
    _, _, va, vb, _ = moments(a, b, WINDOW)
    part = share(va, vb)
    quality = part * ssim_map(fused, a) + (1 - part) * ssim_map(fused, b)
    return quality, np.maximum(va, vb)


def piella(fused, sources):
    return piella_parts(fused, sources)[0].mean()


def piella_weighted(fused, sources):
    quality, saliency = piella_parts(fused, sources)
    return (quality * saliency).sum() / saliency.sum()


def piella_edges(fused, sources):
    prewitt = np.array([[1.0, 0, -1]] * 3)

    def outline(image):
        return np.hypot(same(image, prewitt), same(image, prewitt.T))

    outlines = [outline(source) for source in sources]
    return piella_weighted(fused, sources) * piella_weighted(outline(fused), outlines)


SMALL = gaussian(7, 1.5)


def cvejic(fused, sources):
    a, b = sources
    with_a, with_b = moments(a, fused, SMALL)[4], moments(b, fused, SMALL)[4]
    part = np.clip(share(with_a, with_b), 0, 1)
    tiny = {"window": SMALL, "c1": 2e-16, "c2": 2e-16}
    return (part * ssim_map(a, fused, **tiny) + (1 - part) * ssim_map(b, fused, **tiny)).mean()


def yang(fused, sources):
    a, b = sources
    tiny = {"window": SMALL, "c1": 2e-16, "c2": 2e-16}
    _, _, va, vb, _ = moments(a, b, SMALL)
    part, with_a, with_b = share(va, vb), ssim_map(a, fused, **tiny), ssim_map(b, fused, **tiny)
    alike = ssim_map(a, b, **tiny) >= 0.75
    return np.where(alike, part * with_a + (1 - part) * with_b, np.maximum(with_a, with_b)).mean()
