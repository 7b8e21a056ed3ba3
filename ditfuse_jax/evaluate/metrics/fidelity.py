"""Visual information fidelity in the pixel domain.

Sheikh and Bovik, "Image information and visual quality", IEEE TIP 15(2), 2006, in its simpler
variant `vifp_mscale`: 4 scales, Gaussian windows of 17, 9, 5 and 3 pixels, sigma a fifth of that,
whole windows only, every other pixel kept from scale to scale.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.sums import Size, count, mean
from ditfuse_jax.evaluate.metrics.windows import Windows, filtered, gaussian_window

_SIDES = (17, 9, 5, 3)
SMALLEST = 41  # pixels, for one whole window at the coarsest scale
_NOISE = 2.0
_HAN_NOISE = 0.005 * 255**2
_HAN_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
_GUARD = 1e-10


class Moments(NamedTuple):
    """Local variances and covariance at one scale, with leading axes (K, 1), (1, M) and (K, M)."""

    source: jax.Array
    fused: jax.Array
    together: jax.Array
    size: Size


def visual_information_fidelity(images: Comparison) -> jax.Array:
    """VIF = **sum** over the sources of preserved information / information of the source.

    Preserved: sum of log(1 + g^2 s_X^2 / (s_V^2 + 2)); of the source: sum of log(1 + s_X^2 / 2),
    over all pixels and scales; g = s_XF / s_X^2, s_V^2 = s_F^2 - g s_XF.  At least 0, each term 1
    for F = X, more where contrast was added; higher is better; undefined where a source is flat.
    """
    return _fidelity(images.once(_scales))


def saturated_visual_information_fidelity(images: Comparison) -> jax.Array:
    """VIF of MATLAB's uint8 images, whose products saturate at 255 at the finest scale.

    Too high by 4 to 55 %.  Negative variances count as zero there, so little but shadows is
    compared.
    """
    _, *others = images.once(_scales)
    window = gaussian_window(_SIDES[0], _SIDES[0] / 5)

    def excess(products: jax.Array) -> jax.Array:
        return filtered(jnp.maximum(products - 255, 0), window)

    source, fused, together, size = images.once(_scales)[0]
    finest = Moments(
        jnp.maximum(source - excess(images.sources**2), 0),
        jnp.maximum(fused - excess(images.fused**2), 0),
        together - excess(images.sources * images.fused),
        size,
    )
    return _fidelity([finest, *others])


def visual_information_fidelity_for_fusion(images: Comparison) -> jax.Array:
    """VIFF = sum over the scales of p [preserved information] / [information of the source].

    Like VIF, but with the noise 0.005 x 255^2, at each pixel only the source with the smaller gain
    g, 1e-7 added to each term, and one ratio per scale, p = (1, 0, 0.15, 1) / 2.15.  Not comparable
    with VIF.  At least 0; higher is better.  Han, Cai, Cao and Xu 2013, as in their code.
    """
    value = jnp.float32(0)
    for weight, moments in zip(_HAN_WEIGHTS, images.once(_scales), strict=True):
        kept, there, gain = _information(moments, _HAN_NOISE)
        chosen = kept[0], there[0], gain[0]
        for other in zip(kept[1:], there[1:], gain[1:], strict=True):
            first = chosen[2] < other[2]
            chosen = tuple(jnp.where(first, a, b) for a, b in zip(chosen, other, strict=True))
        size = moments.size
        value += weight * mean(chosen[0] + 1e-7, size) / mean(chosen[1] + 1e-7, size)
    return value


def _scales(images: Comparison) -> list[Moments]:
    scales, stack, size = [], images.stack, images.size
    for scale, side in enumerate(_SIDES):
        window = gaussian_window(side, side / 5)
        if scale:
            stack = filtered(stack, window)[:, ::2, ::2]
            size = size and ((size[0] - side + 2) // 2, (size[1] - side + 2) // 2)
        of_windows = size and (size[0] - side + 1, size[1] - side + 1)
        source, fused = images.split(Windows(stack, window))
        scales.append(
            Moments(source.variance, fused.variance, source.covariance(fused), of_windows)
        )
    return scales


def _fidelity(scales: list[Moments]) -> jax.Array:
    kept, there = jnp.float32(0), jnp.float32(0)
    for moments in scales:
        places = count(moments.together, moments.size)
        of_fused, of_source, _ = _information(moments, _NOISE)
        kept += mean(of_fused, moments.size) * places
        there += mean(of_source, moments.size) * places
    return jnp.sum(kept / there, axis=0)


def _information(moments: Moments, noise: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Preserved information and that of the source, in log10 units, and the gain, at least 0."""
    source, fused, together, _ = moments
    flat = (source < _GUARD) | (fused < _GUARD)
    gain = jnp.where(flat, 0, jnp.maximum(together / (source + _GUARD), 0))
    rest = jnp.maximum(fused - gain * together, _GUARD)
    kept = _log10_1p(gain**2 * source / (rest + noise))
    return kept, _log10_1p(jnp.where(source < _GUARD, 0, source) / noise), gain


def _log10_1p(x: jax.Array) -> jax.Array:
    return jnp.log1p(x) * math.log10(math.e)
