"""Two exposures of one scene: the camera's response is inverted, light scaled, response applied.

The photograph is assumed to be well exposed.  The brighter exposure loses detail by clipping, the
darker one by noise and quantization to 8 bits, as in a real bracket (Debevec and Malik 1997).
"""

import dataclasses

import numpy as np

UNDER_STOPS = (1.5, 3.5)
OVER_STOPS = (1.0, 2.5)
RESPONSE = (1.8, 2.6)  # exponent of the camera's response
CONTRAST = (0.0, 0.6)  # weight of an S-curve in the response
SHOT_NOISE = (0.0, 0.01)  # variance per unit of light, of full scale
READ_NOISE = (0.0, 0.004)  # standard deviation, of full scale

_LEVELS = np.linspace(0, 1, 1 << 14)


@dataclasses.dataclass(frozen=True, eq=False)
class ExposurePair:
    """Two exposures of one scene.

    Attributes:
      under: underexposed, `uint8 (H, W, 3)`.
      over: overexposed, the same shape.
      stops: exposure of both relative to the photograph, (negative, positive).
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
        # Shot noise depends on the light after exposure: a longer exposure collects more photons.
        exposed = exposed + noise * np.sqrt(
            np.float32(shot / 8) * np.minimum(exposed, 1) + np.float32(read**2)
        )
        steps = np.clip(exposed, 0, 1) * np.float32(len(_LEVELS) - 1)
        made.append(display[steps.astype(np.int32)])
    return ExposurePair(made[0], made[1], stops)


def _response(exponent: float, contrast: float) -> np.ndarray:
    """Returns display values for `_LEVELS` of light: a power law, blended with an S-curve."""
    power = _LEVELS ** (1 / exponent)
    bent = power * power * (3 - 2 * power)
    return (1 - contrast) * power + contrast * bent
