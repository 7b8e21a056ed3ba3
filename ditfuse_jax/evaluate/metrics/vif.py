"""Visual information fidelity, in the pixel domain: what of a source a viewer still sees.

Sheikh and Bovik, "Image information and visual quality", IEEE TIP 15(2), 2006, in its simpler
variant `vifp_mscale`: 4 scales, Gaussian windows of 17, 9, 5 and 3 pixels and sigma a fifth of that,
whole windows only, every other pixel kept from scale to scale.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.sums import mean
from ditfuse_jax.evaluate.metrics.windows import Windows, filtered, gaussian_window

_SIDES = (17, 9, 5, 3)
SMALLEST = 41  # pixels, for one whole window at the coarsest scale
_NOISE = 2.0
_HAN_NOISE = 0.005 * 255**2
_HAN_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
_GUARD = 1e-10


class Information(NamedTuple):
    """Of sources and fused images at one scale, each `(K, M, h, w)` or as `there` `(K, 1, h, w)`."""

    kept: jax.Array  # log10(1 + g^2 s_X^2 / (s_V^2 + noise))
    there: jax.Array  # log10(1 + s_X^2 / noise)
    gain: jax.Array  # g = s_XF / s_X^2, at least 0


def visual_information_fidelity(images: Comparison) -> jax.Array:
    """VIF = **sum** over the sources of [sum log(1 + g^2 s_X^2 / (s_V^2 + 2))] / [sum log(1 + s_X^2 / 2)].

    The sums run over all places and scales; g = s_XF / s_X^2, s_V^2 = s_F^2 - g s_XF.  At least 0,
    1 for F = X in each term, more where contrast was added; higher is better; undefined where a
    source is flat.
    """
    kept, there = jnp.float32(0), jnp.float32(0)
    for sources, fused in images.once(_scales):
        information = _information(sources, fused, _NOISE)
        size = fused.mean[0, 0].size
        kept += mean(information.kept) * size
        there += mean(information.there) * size
    return jnp.sum(kept / there, axis=0)


def visual_information_fidelity_for_fusion(images: Comparison) -> jax.Array:
    """VIFF = sum over the scales of p [sum of kept information] / [sum of information there].

    As VIF, but with the noise 0.005 x 255^2, at each place only the source with the smaller gain g,
    1e-7 added to each term, and one ratio for each scale, p = (1, 0, 0.15, 1) / 2.15.  Another
    number than VIF.  At least 0; higher is better.  Han, Cai, Cao and Xu 2013, as their code does it.
    """
    value = jnp.float32(0)
    for weight, (sources, fused) in zip(_HAN_WEIGHTS, images.once(_scales), strict=True):
        information = _information(sources, fused, _HAN_NOISE)
        kept, there, gain = (x[0] for x in information)
        for other_kept, other_there, other_gain in zip(*information[:], strict=True):
            first = gain < other_gain
            kept, there = jnp.where(first, kept, other_kept), jnp.where(first, there, other_there)
            gain = jnp.minimum(gain, other_gain)
        value += weight * mean(kept + 1e-7) / mean(there + 1e-7)
    return value


def _scales(images: Comparison) -> list[tuple[Windows, Windows]]:
    """Sources and fused images at each scale."""
    scales, stack = [], images.stack
    for scale, side in enumerate(_SIDES):
        window = gaussian_window(side, side / 5)
        if scale:
            stack = filtered(stack, window)[:, ::2, ::2]
        scales.append(images.split(Windows(stack, window)))
    return scales


def _information(source: Windows, fused: Windows, noise: float) -> Information:
    of_source, of_fused = source.variance, fused.variance
    together = source.covariance(fused)
    flat = (of_source < _GUARD) | (of_fused < _GUARD)
    gain = jnp.where(flat, 0, jnp.maximum(together / (of_source + _GUARD), 0))
    rest = jnp.maximum(of_fused - gain * together, _GUARD)
    kept = _log10_1p(gain**2 * of_source / (rest + noise))
    there = _log10_1p(jnp.where(of_source < _GUARD, 0, of_source) / noise)
    return Information(kept, there, gain)


def _log10_1p(x: jax.Array) -> jax.Array:
    return jnp.log1p(x) * math.log10(math.e)
