"""Q_P: agreement of features found by phase congruency, independent of contrast.

Phase congruency after Kovesi, "Image features from phase congruency", Videre 1(3), 1999, with
log-Gabor filters of 4 scales and 6 orientations; the metric after Zhao, Laganiere and Liu 2007.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import SSIM_WINDOW, Comparison
from ditfuse_jax.evaluate.metrics.gradients import magnitude
from ditfuse_jax.evaluate.metrics.sums import mean
from ditfuse_jax.evaluate.metrics.windows import same_size

_SCALES = 4
_ORIENTATIONS = 6
_SHORTEST = 3.0  # pixels, wavelength of the finest scale
_FACTOR = 2.1  # from scale to scale
_BANDWIDTH = 0.55  # sigma of the log-Gabor filter over its centre frequency
_ANGULAR_SIGMA = math.pi / _ORIENTATIONS / 1.2
_NOISE_SIGMAS = 2.0
_OVERESTIMATE = 1.7  # of the noise, found empirically
_CUTOFF, _STEEPNESS = 0.5, 10.0  # of the weight for spread over the scales
_EPSILON = 1e-4
_THRESHOLD = 0.1
_C = 1e-4


class Features(NamedTuple):
    """Phase congruency of images, and its largest and smallest moment, each `(N, H, W)`."""

    congruency: jax.Array
    edge: jax.Array
    corner: jax.Array


def phase_congruency_quality(images: Comparison) -> jax.Array:
    """Q_P = product over phase congruency p, its largest and its smallest moment of a mean.

    The mean, over places where the largest p of the sources exceeds 0.1, of the best of several
    local correlations: of the map of F with that of each source where its p exceeds 0.1, and with
    the map of whichever source has the largest p.  Correlation: [c + 1e-4] / [s s' + 1e-4] under
    SSIM's window, zeros beyond the borders.  0 to 1; higher is better; undefined where the sources
    have no feature.
    """
    features = phase_congruency(images.stack)
    count = len(images.sources)
    congruency = features.congruency[:count]
    strongest = jnp.argmax(congruency, axis=0)[None]
    masks = jnp.concatenate([congruency, congruency.max(axis=0, keepdims=True)]) > _THRESHOLD
    value = jnp.float32(1)
    for feature in features:
        of_sources = feature[:count]
        of_strongest = jnp.take_along_axis(of_sources, strongest, axis=0)
        references = jnp.concatenate([of_sources, of_strongest]) * masks
        local = _correlation(references[:, None], feature[None, count:])
        best = jnp.max(jnp.where(masks[:, None], local, 0), axis=0)
        value *= mean(best) / mean(masks[-1].astype(jnp.float32))
    return value


def phase_congruency(images: jax.Array) -> Features:
    """Returns the features of `(N, H, W)`, independent of contrast."""
    radial, angle = _radial(images.shape), _angle(images.shape)
    # The filters ignore the mean; without it a flat image has exactly no features.
    spectrum = jnp.fft.fft2(images - jnp.round(mean(images))[:, None, None])
    zero = jnp.zeros(images.shape)

    def add(number: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        orientation = number * (math.pi / _ORIENTATIONS)
        energy, amplitude = _energy(spectrum, radial, _spread(angle, orientation))
        here = energy / jnp.where(amplitude == 0, 1, amplitude)
        x, y = here * jnp.cos(orientation), here * jnp.sin(orientation)
        new = (energy, amplitude, x * x, y * y, x * y)
        return tuple(old + term for old, term in zip(sums, new, strict=True))

    energy, amplitude, xx, yy, xy = jax.lax.fori_loop(0, _ORIENTATIONS, add, (zero,) * 5)
    xx, yy, xy = 2 * xx / _ORIENTATIONS, 2 * yy / _ORIENTATIONS, xy / _ORIENTATIONS
    width = jnp.sqrt(xy**2 + (xx - yy) ** 2) + _EPSILON
    return Features(energy / (amplitude + _EPSILON), (xx + yy + width) / 2, (xx + yy - width) / 2)


def _energy(
    spectrum: jax.Array, radial: jax.Array, spread: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Local energy above the noise, weighted by its spread over the scales; summed amplitudes."""
    # Even and odd parts apart: complex division is slow and not needed.
    responses = [jnp.fft.ifft2(spectrum * (scale * spread)) for scale in radial]
    evens, odds = [r.real for r in responses], [r.imag for r in responses]
    amplitudes = [magnitude(even, odd) for even, odd in zip(evens, odds, strict=True)]
    amplitude, largest = _total(amplitudes), functools.reduce(jnp.maximum, amplitudes)
    even, odd = _total(evens), _total(odds)
    length = magnitude(even, odd) + _EPSILON
    # The responses' part in their common direction minus the part across it.
    along = even * even + odd * odd
    across = [jnp.abs(e * odd - o * even) for e, o in zip(evens, odds, strict=True)]
    energy = (along - _total(across)) / length
    noise = _noise(amplitudes[0], radial, spread)
    width = amplitude / (largest + _EPSILON) / _SCALES
    weight = jax.nn.sigmoid(_STEEPNESS * (width - _CUTOFF))
    return weight * jnp.maximum(energy - noise, 0), amplitude


def _total(images: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, images)


def _noise(finest: jax.Array, radial: jax.Array, spread: jax.Array) -> jax.Array:
    """The energy below which there is only noise, `(N, 1, 1)`.

    Computed from the median energy at the finest scale, which noise dominates, and the filters'
    response to such noise.
    """
    power = _median(finest**2) / math.log(2) / jnp.sum((radial[0] * spread) ** 2)
    # Power of the sum of the filters' even parts: by Parseval, from their transfer functions.
    opposite = jnp.roll(spread[::-1, ::-1], (1, 1), axis=(0, 1))
    even = jnp.sum((jnp.sum(radial, axis=0) * (spread + opposite) / 2) ** 2)
    rayleigh = jnp.sqrt(power * even)
    level = math.sqrt(math.pi / 2) + _NOISE_SIGMAS * math.sqrt(2 - math.pi / 2)
    return (rayleigh * level / _OVERESTIMATE)[:, None, None]


def _radial(shape: tuple[int, ...]) -> jax.Array:
    """Log-Gabor filters of all scales, `(4, H, W)`, cut off before the corners of the spectrum."""
    rows, columns = (_frequencies(side, side) for side in shape[1:])
    low_pass = 1 / (1 + ((rows[:, None] ** 2 + columns**2) / 0.45**2) ** 15)
    # For odd sides Kovesi's code spreads the filters over one sample less.
    rows, columns = (_frequencies(side, side - side % 2) for side in shape[1:])
    radius = jnp.sqrt(rows[:, None] ** 2 + columns**2).at[0, 0].set(1)
    centres = jnp.array([1 / (_SHORTEST * _FACTOR**scale) for scale in range(_SCALES)])
    filters = jnp.exp(-(jnp.log(radius / centres[:, None, None]) ** 2) / _log_width())
    return (filters * low_pass).at[:, 0, 0].set(0)


def _log_width() -> float:
    return 2 * math.log(_BANDWIDTH) ** 2


def _angle(shape: tuple[int, ...]) -> jax.Array:
    """The direction of each frequency, anticlockwise, `(H, W)`."""
    rows, columns = (_frequencies(side, side - side % 2) for side in shape[1:])
    return jnp.arctan2(-rows[:, None], columns)


def _frequencies(count: int, period: int) -> jax.Array:
    return jnp.fft.fftfreq(count) * count / period


def _spread(angle: jax.Array, orientation: jax.Array) -> jax.Array:
    distance = jnp.abs(angle - orientation)
    distance = jnp.minimum(distance, 2 * math.pi - distance)
    return jnp.exp(-(distance**2) / (2 * _ANGULAR_SIGMA**2))


def _median(values: jax.Array) -> jax.Array:
    """The median of non-negative `(N, H, W)`, by bisecting the bits of float32: no sorting."""
    flat = jax.lax.bitcast_convert_type(values.reshape(len(values), -1), jnp.int32)
    middle = (flat.shape[1] - 1) // 2

    def halve(_, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        guess = low + (high - low) // 2
        enough = jnp.sum(flat <= guess[:, None], axis=1) > middle
        return jnp.where(enough, low, guess + 1), jnp.where(enough, guess, high)

    start = jnp.zeros(len(flat), jnp.int32), flat.max(axis=1)
    lower, _ = jax.lax.fori_loop(0, 31, halve, start)
    # The next value in order: the same one if it occurs often enough.
    often = jnp.sum(flat <= lower[:, None], axis=1) > middle + 1
    beyond = jnp.min(jnp.where(flat > lower[:, None], flat, jnp.iinfo(jnp.int32).max), axis=1)
    upper = lower if flat.shape[1] % 2 else jnp.where(often, lower, beyond)
    lower, upper = (jax.lax.bitcast_convert_type(x, jnp.float32) for x in (lower, upper))
    return (lower + upper) / 2


def _correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    def blurred(z: jax.Array) -> jax.Array:
        return same_size(z, SSIM_WINDOW)

    mean_x, mean_y = blurred(x), blurred(y)
    covariance = blurred(x * y) - mean_x * mean_y
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    return (covariance + _C) / (jnp.sqrt(jnp.abs(variance_x * variance_y)) + _C)
