"""Q_P: agreement of features found by phase congruency, independent of contrast.

Phase congruency after Kovesi, "Image features from phase congruency", Videre 1(3), 1999, with
log-Gabor filters of 4 scales and 6 orientations; the metric after Zhao, Laganiere and Liu 2007.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics.borders import cleared
from ditfuse_jax.evaluate.metrics.buckets import bucket, padded
from ditfuse_jax.evaluate.metrics.comparison import SSIM_WINDOW, Comparison
from ditfuse_jax.evaluate.metrics.gradients import magnitude
from ditfuse_jax.evaluate.metrics.sums import Size, count, inside, mean
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
    features = images.prepared.get("Qp")
    if features is None:
        features = phase_congruency(images.stack)
    number = len(images.sources)
    congruency = features.congruency[:number]
    strongest = jnp.argmax(congruency, axis=0)[None]
    masks = jnp.concatenate([congruency, congruency.max(axis=0, keepdims=True)]) > _THRESHOLD
    value = jnp.float32(1)
    for feature in features:
        of_sources = feature[:number]
        of_strongest = jnp.take_along_axis(of_sources, strongest, axis=0)
        references = jnp.concatenate([of_sources, of_strongest]) * masks
        local = _correlation(references[:, None], feature[None, number:])
        best = jnp.max(jnp.where(masks[:, None], local, 0), axis=0)
        # Where nothing is marked, as beyond the borders, `best` is zero.
        value *= mean(best) / mean(masks[-1].astype(jnp.float32))
    return value


def phase_congruency(images: jax.Array) -> Features:
    """Returns the features of `(N, H, W)`, independent of contrast."""
    radial, angle = _radial(images.shape, jnp), _angle(images.shape, jnp)
    # The filters ignore the mean; without it a flat image has exactly no features.
    spectrum = jnp.fft.fft2(images - jnp.round(mean(images))[:, None, None])
    zero = jnp.zeros(images.shape)

    def add(number: jax.Array, sums: Sums) -> Sums:
        orientation = number * (math.pi / _ORIENTATIONS)
        spread = _spread(angle, orientation, jnp)
        responses = [jnp.fft.ifft2(spectrum * (scale * spread)) for scale in radial]
        return _added(sums, responses, orientation, _noise_ratio(radial, spread, jnp))

    return _features(jax.lax.fori_loop(0, _ORIENTATIONS, add, Sums(*(zero,) * 5)))


class Sums(NamedTuple):
    """Sums over the orientations, each `(N, H, W)`."""

    energy: jax.Array
    amplitude: jax.Array
    xx: jax.Array
    yy: jax.Array
    xy: jax.Array


def prepare_phase_congruency(stack: np.ndarray, sources: int) -> Features:
    """Returns the features of `(N, H, W)`: see `Metric.prepare`.

    The Fourier transforms and filters, which need the exact size, are those of SciPy and NumPy.
    What follows is compiled for padded images, one image at a time.
    """
    import scipy.fft

    del sources
    height, width = stack.shape[1:]
    size, shape = (np.int32(height), np.int32(width)), bucket((height, width))
    radial, angle = _radial(stack.shape, np), _angle(stack.shape, np)
    sums = [Sums(*(jnp.zeros((1, *shape)) for _ in Sums._fields)) for _ in stack]
    with scipy.fft.set_workers(-1):
        levels = np.rint(stack.mean(axis=(1, 2), keepdims=True))
        spectra = np.asarray(scipy.fft.fft2((stack - levels).astype(np.float32)))
        for number in range(_ORIENTATIONS):
            orientation = number * (math.pi / _ORIENTATIONS)
            spread = _spread(angle, orientation, np)
            ratio = np.float32(_noise_ratio(radial, spread, np))
            filters = (radial * spread).astype(np.float32)
            for image, spectrum in enumerate(spectra):
                responses = padded(np.asarray(scipy.fft.ifft2(spectrum * filters)))
                sums[image] = _add_on_device(
                    sums[image], responses[:, None], np.float32(orientation), ratio, size
                )
    features = [_features(of_image, size) for of_image in sums]
    return Features(*(jnp.concatenate(maps) for maps in zip(*features, strict=True)))


def _added(
    sums: Sums, responses: Any, orientation: Any, noise_ratio: Any, size: Size = None
) -> Sums:
    """Adds one orientation: its responses, complex, one `(N, H, W)` for each scale."""
    energy, amplitude = _energy(responses, noise_ratio, size)
    here = energy / jnp.where(amplitude == 0, 1, amplitude)
    x, y = here * jnp.cos(orientation), here * jnp.sin(orientation)
    new = (energy, amplitude, x * x, y * y, x * y)
    return Sums(*(old + term for old, term in zip(sums, new, strict=True)))


_add_on_device = jax.jit(_added)


@jax.jit
def _features(sums: Sums, size: Size = None) -> Features:
    energy, amplitude, xx, yy, xy = sums
    xx, yy, xy = 2 * xx / _ORIENTATIONS, 2 * yy / _ORIENTATIONS, xy / _ORIENTATIONS
    width = jnp.sqrt(xy**2 + (xx - yy) ** 2) + _EPSILON
    features = energy / (amplitude + _EPSILON), (xx + yy + width) / 2, (xx + yy - width) / 2
    return Features(*(cleared(feature, size) for feature in features))


def _energy(responses: Any, noise_ratio: Any, size: Size) -> tuple[jax.Array, jax.Array]:
    """Local energy above the noise, weighted by its spread over the scales; summed amplitudes."""
    # Even and odd parts apart: complex division is slow and not needed.
    evens, odds = [r.real for r in responses], [r.imag for r in responses]
    amplitudes = [magnitude(even, odd) for even, odd in zip(evens, odds, strict=True)]
    amplitude, largest = _total(amplitudes), functools.reduce(jnp.maximum, amplitudes)
    even, odd = _total(evens), _total(odds)
    length = magnitude(even, odd) + _EPSILON
    # The responses' part in their common direction minus the part across it.
    along = even * even + odd * odd
    across = [jnp.abs(e * odd - o * even) for e, o in zip(evens, odds, strict=True)]
    energy = (along - _total(across)) / length
    noise = _noise(amplitudes[0], noise_ratio, size)
    width = amplitude / (largest + _EPSILON) / _SCALES
    weight = jax.nn.sigmoid(_STEEPNESS * (width - _CUTOFF))
    return weight * jnp.maximum(energy - noise, 0), amplitude


def _total(images: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, images)


def _noise(finest: jax.Array, noise_ratio: Any, size: Size) -> jax.Array:
    """The energy below which there is only noise, `(N, 1, 1)`.

    Computed from the median energy at the finest scale, which noise dominates, and the filters'
    response to such noise.
    """
    rayleigh = jnp.sqrt(_median(finest**2, size) / math.log(2) * noise_ratio)
    level = math.sqrt(math.pi / 2) + _NOISE_SIGMAS * math.sqrt(2 - math.pi / 2)
    return (rayleigh * level / _OVERESTIMATE)[:, None, None]


def _noise_ratio(radial: Any, spread: Any, xp: Any) -> Any:
    """The power of the sum of the filters' even parts over that of the finest filter."""
    # By Parseval, from their transfer functions.
    opposite = xp.roll(spread[::-1, ::-1], (1, 1), axis=(0, 1))
    even = xp.sum((xp.sum(radial, axis=0) * (spread + opposite) / 2) ** 2)
    return even / xp.sum((radial[0] * spread) ** 2)


def _radial(shape: tuple[int, ...], xp: Any) -> Any:
    """Log-Gabor filters of all scales, `(4, H, W)`, cut off before the corners of the spectrum.

    `xp` is NumPy, for float64, or `jax.numpy`.
    """
    rows, columns = (_frequencies(side, side, xp) for side in shape[1:])
    low_pass = 1 / (1 + ((rows[:, None] ** 2 + columns**2) / 0.45**2) ** 15)
    # For odd sides Kovesi's code spreads the filters over one sample less.
    rows, columns = (_frequencies(side, side - side % 2, xp) for side in shape[1:])
    radius = xp.sqrt(rows[:, None] ** 2 + columns**2)
    middle = radius == 0  # the zero frequency, which no filter lets through
    radius = xp.log(xp.where(middle, 1, radius))
    centres = xp.array([math.log(1 / (_SHORTEST * _FACTOR**scale)) for scale in range(_SCALES)])
    filters = xp.exp(-((radius - centres[:, None, None]) ** 2) / _log_width())
    return xp.where(middle, 0, filters * low_pass)


def _log_width() -> float:
    return 2 * math.log(_BANDWIDTH) ** 2


def _angle(shape: tuple[int, ...], xp: Any) -> Any:
    """The direction of each frequency, anticlockwise, `(H, W)`."""
    rows, columns = (_frequencies(side, side - side % 2, xp) for side in shape[1:])
    return xp.arctan2(-rows[:, None], columns)


def _frequencies(count: int, period: int, xp: Any) -> Any:
    return xp.fft.fftfreq(count) * count / period


def _spread(angle: Any, orientation: Any, xp: Any) -> Any:
    distance = xp.abs(angle - orientation)
    distance = xp.minimum(distance, 2 * math.pi - distance)
    return xp.exp(-(distance**2) / (2 * _ANGULAR_SIGMA**2))


def _median(values: jax.Array, size: Size) -> jax.Array:
    """The median of non-negative `(N, H, W)`, by bisecting the bits of float32: no sorting."""
    places = count(values, size)
    if size is not None:
        values = jnp.where(inside(values, size), values, jnp.inf)
    flat = jax.lax.bitcast_convert_type(values.reshape(len(values), -1), jnp.int32)
    middle = (places - 1) // 2

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
    upper = jnp.where((places % 2 == 1) | often, lower, beyond)
    lower, upper = (jax.lax.bitcast_convert_type(x, jnp.float32) for x in (lower, upper))
    return (lower + upper) / 2


def _correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    def blurred(z: jax.Array) -> jax.Array:
        return same_size(z, SSIM_WINDOW)

    mean_x, mean_y = blurred(x), blurred(y)
    covariance = blurred(x * y) - mean_x * mean_y
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    return (covariance + _C) / (jnp.sqrt(jnp.abs(variance_x * variance_y)) + _C)
