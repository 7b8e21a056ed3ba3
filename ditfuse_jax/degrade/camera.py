"""Two exposures of one scene: a camera's response undone, light added or taken, and redone.

The photograph is taken as well exposed.  What a brighter exposure clips and what a darker one loses
in noise and in the steps of 8 bits is gone, as in a real bracket (Debevec and Malik 1997).
"""

import dataclasses

import numpy as np

UNDER_STOPS = (1.5, 3.5)
OVER_STOPS = (1.0, 2.5)
RESPONSE = (1.8, 2.6)  # exponent of the camera's response
CONTRAST = (0.0, 0.6)  # how much of an S-curve is in it
SHOT_NOISE = (0.0, 0.01)  # variance per unit of light, of full scale
READ_NOISE = (0.0, 0.004)  # standard deviation, of full scale

_LEVELS = np.linspace(0, 1, 1 << 14)


@dataclasses.dataclass(frozen=True, eq=False)
class ExposurePair:
    """Attributes:
    under: too dark, `uint8 (H, W, 3)`.
    over: too bright.
    stops: of both, (negative, positive).
    """

    under: np.ndarray
    over: np.ndarray
    stops: tuple[float, float]


def exposure_pair(image: np.ndarray, rng: np.random.Generator) -> ExposurePair:
    """Returns two exposures of a well exposed `uint8 (H, W, 3)` image."""
    exponent, contrast = rng.uniform(*RESPONSE), rng.uniform(*CONTRAST)
    response = _response(exponent, contrast)
    light = np.interp(np.arange(256) / 255, response, _LEVELS).astype(np.float32)[image]
    stops = (-float(rng.uniform(*UNDER_STOPS)), float(rng.uniform(*OVER_STOPS)))
    shot, read = rng.uniform(*SHOT_NOISE), rng.uniform(*READ_NOISE)
    display = np.rint(255 * response).astype(np.uint8)
    made = []
    for stop in stops:
        exposed = light * np.float32(2**stop)
        noise = rng.standard_normal(image.shape, np.float32)
        # Photons are counted after the exposure; a longer one collects more of them.
        exposed = exposed + noise * np.sqrt(
            np.float32(shot / 8) * np.minimum(exposed, 1) + np.float32(read**2)
        )
        steps = np.clip(exposed, 0, 1) * np.float32(len(_LEVELS) - 1)
        made.append(display[steps.astype(np.int32)])
    return ExposurePair(made[0], made[1], stops)


def _response(exponent: float, contrast: float) -> np.ndarray:
    """Display values for `_LEVELS` of light: a power, bent into an S by `contrast`."""
    power = _LEVELS ** (1 / exponent)
    bent = power * power * (3 - 2 * power)
    return (1 - contrast) * power + contrast * bent
