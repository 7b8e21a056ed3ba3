"""Changes of brightness and contrast, as the control tags name them.

Every curve is monotone, and keeps black and white or clips them, so structure is preserved; the
levels are far enough apart to be distinguished.
"""

import numpy as np

# Tag (without brackets) -> exponent g of `y = x^g` on [0, 1].
BRIGHTNESS = {"LIGHT++": 0.45, "LIGHT+": 0.7, "LIGHT-": 1.45, "LIGHT--": 2.2}
# Tag -> slope about the image's own mean.
CONTRAST = {"CONTRAST+": 1.5, "CONTRAST-": 0.6}

TONES = (*BRIGHTNESS, *CONTRAST)

_LEVELS = np.arange(256) / 255


def adjust_tone(image: np.ndarray, tag: str) -> np.ndarray:
    """Changes the tone of a `uint8 (H, W, 3)` image as a tag of `BRIGHTNESS` or `CONTRAST` names.

    Raises:
      KeyError: no such tag.
    """
    if tag in BRIGHTNESS:
        curve = _LEVELS ** BRIGHTNESS[tag]
    else:
        middle = float(image.mean()) / 255
        curve = middle + CONTRAST[tag] * (_LEVELS - middle)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8)[image]
