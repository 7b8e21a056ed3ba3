"""Descriptors that look alike across modalities: which way edges run, not which side is bright."""

import cv2
import numpy as np

# Standard deviations in pixels of the Gaussians before the derivative and over the descriptors.
_SMOOTHING = 0.8
SPREAD = 1.5
# Nearer to a border, descriptors depend on what is taken for the pixels beyond it.
MARGIN = int(np.ceil(2 * SPREAD)) + 1
# Strong edges of one modality may be weak in the other: the exponent of the gradient's magnitude.
_EXPONENT = 0.5
# Descriptors shorter than about this share of the mean are taken for noise.
_FLAT = 0.5


def orientation_descriptors(grey: np.ndarray) -> np.ndarray:
    """Returns smoothed, normalised orientations of edges, float32 (4, H, W) of norm below 1.

    The channels are the cosine and sine of two and of four times the gradient's angle: a bright
    edge equals a dark one, and edges of all directions together give zero.  The idea is CFOG's (Ye
    et al., Fast and robust matching for multimodal remote sensing image registration, TGRS 2019).

    Args:
      grey: float32 (H, W).
    """
    grey = cv2.GaussianBlur(grey, (0, 0), _SMOOTHING)
    x = cv2.Scharr(grey, cv2.CV_32F, 1, 0)
    y = cv2.Scharr(grey, cv2.CV_32F, 0, 1)
    magnitude = cv2.magnitude(x, y)
    magnitude += 0.05 * magnitude.mean() + 1e-6
    unit = magnitude**-2
    cos2, sin2 = (x * x - y * y) * unit, 2 * x * y * unit
    length = magnitude**_EXPONENT
    channels = np.stack([cos2, sin2, cos2 * cos2 - sin2 * sin2, 2 * cos2 * sin2]) * length
    for channel in channels:
        cv2.GaussianBlur(channel, (0, 0), SPREAD, dst=channel)
    norm = np.sqrt((channels * channels).sum(axis=0))
    channels /= norm + _FLAT * norm.mean() + 1e-6
    return channels
