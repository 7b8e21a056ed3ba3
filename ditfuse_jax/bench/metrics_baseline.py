"""Twelve fusion metrics as a plain script, with NumPy and SciPy's convolutions.

The baseline that `evaluate.metrics` is measured against.  Grey images are float64 `(H, W)` with
integers from 0 to 255.
"""

import math

import numpy as np
from scipy.signal import convolve2d


def twelve_metrics(fused: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Computes EN, SD, SF, AG, MI, MSE, CC, PSNR, SCD, VIF, Qabf and SSIM of a fused image."""
    across, down = np.diff(fused, axis=1), np.diff(fused, axis=0)
    gy, gx = np.gradient(fused)
    height, width = fused.shape
    mse = (np.mean((fused - a) ** 2) + np.mean((fused - b) ** 2)) / 2
    return {
        "EN": entropy(fused),
        "SD": float(fused.std()),
        "SF": math.sqrt(np.mean(across**2) + np.mean(down**2)),
        "AG": float(np.sqrt((gx**2 + gy**2) / 2).sum() / ((height - 1) * (width - 1))),
        "MI": mutual_information(a, fused) + mutual_information(b, fused),
        "MSE": float(mse),
        "CC": (correlation(a, fused) + correlation(b, fused)) / 2,
        "PSNR": 10 * math.log10(255**2 / mse),
        "SCD": correlation(fused - b, a) + correlation(fused - a, b),
        "VIF": vif(a, fused) + vif(b, fused),
        "Qabf": qabf(fused, a, b),
        "SSIM": (ssim(a, fused) + ssim(b, fused)) / 2,
    }


def bits(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def entropy(image: np.ndarray) -> float:
    return bits(np.bincount(image.astype(np.int64).ravel(), minlength=256))


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    joint, _, _ = np.histogram2d(a.ravel(), b.ravel(), bins=256, range=[[0, 256]] * 2)
    return entropy(a) + entropy(b) - bits(joint)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def gaussian(size: int, sigma: float) -> np.ndarray:
    x = np.arange(size) - (size - 1) / 2
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
    return window / window.sum()


def moments(x: np.ndarray, y: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, ...]:
    mx, my = convolve2d(x, window, "valid"), convolve2d(y, window, "valid")
    vx = convolve2d(x * x, window, "valid") - mx * mx
    vy = convolve2d(y * y, window, "valid") - my * my
    return mx, my, vx, vy, convolve2d(x * y, window, "valid") - mx * my


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    mx, my, vx, vy, c = moments(x, y, gaussian(11, 1.5))
    c1, c2 = 2.55**2, 7.65**2
    local = (2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(local.mean())


def vif(reference: np.ndarray, image: np.ndarray) -> float:
    kept = there = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = gaussian(size, size / 5)
        if scale:
            reference = convolve2d(reference, window, "valid")[::2, ::2]
            image = convolve2d(image, window, "valid")[::2, ::2]
        _, _, v1, v2, c = moments(reference, image, window)
        v1, v2 = np.maximum(v1, 0), np.maximum(v2, 0)
        gain = np.where((v1 < 1e-10) | (v2 < 1e-10), 0, np.maximum(c / (v1 + 1e-10), 0))
        rest = np.maximum(v2 - gain * c, 1e-10)
        kept += np.log10(1 + gain**2 * v1 / (rest + 2)).sum()
        there += np.log10(1 + v1 / 2).sum()
    return float(kept / there)


def edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    x, y = convolve2d(image, sobel, "same"), convolve2d(image, -sobel.T, "same")
    angle = np.full_like(x, math.pi / 2)
    np.divide(y, x, out=angle, where=x != 0)
    return np.hypot(x, y), np.where(x == 0, math.pi / 2, np.arctan(angle))


def qabf(fused: np.ndarray, *sources: np.ndarray) -> float:
    strength_f, angle_f = edges(fused)
    kept = there = 0.0
    for source in sources:
        strength, angle = edges(source)
        low, high = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = low.copy()
        np.divide(low, high, out=ratio, where=low != high)
        alike = 1 - np.abs(angle - angle_f) / (math.pi / 2)
        of_strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        of_angle = 0.9879 / (1 + np.exp(-22 * (alike - 0.8)))
        kept += (of_strength * of_angle * strength).sum()
        there += strength.sum()
    return float(kept / there)
