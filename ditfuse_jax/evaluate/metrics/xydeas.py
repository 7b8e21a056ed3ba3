"""Preservation of the sources' edges: Xydeas and Petrovic 2000, in three versions.

For each source X and pixel, the Sobel strengths g and orientations a give the ratio of strengths
G = min(g_X, g_F) / max(g_X, g_F) and the agreement of orientations A; the preservation Q_XF is a
product of two logistic functions of them.  Constants, borders and weights differ between the three
codes behind published tables.
"""

import math

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.gradients import magnitude, sobel

_RIGHT_ANGLE = math.pi / 2
_TINY = 1e-5


def edges_kept(images: Comparison) -> jax.Array:
    """Qabf (a), Hong's code = [sum over X of Q_XF g_X] / [sum over X of g_X], sums over all pixels.

    Q = 0.9994 / (1 + e^(-15(G-0.5))) x 0.9879 / (1 + e^(-22(A-0.8))), A = 1 - |a_X - a_F| / (pi/2).
    0 to 0.99; higher is better; undefined where all sources are flat.
    """
    x, y = images.sobel
    # Where s_x is 0 the edge is level; s_y grows upwards.
    angle = jnp.where(x == 0, _RIGHT_ANGLE, jnp.arctan(-y / jnp.where(x == 0, 1, x)))
    (angle, angle_f), (strength, strength_f) = images.split(angle), images.split(magnitude(x, y))
    low, high = jnp.minimum(strength, strength_f), jnp.maximum(strength, strength_f)
    # Where both are equally strong, that code uses the strength itself as the ratio.
    relative = jnp.where(low == high, low, low / high)
    alike = 1 - jnp.abs(angle - angle_f) / _RIGHT_ANGLE
    kept = _logistic(relative, 0.9994, -15, 0.5) * _logistic(alike, 0.9879, -22, 0.8)
    return jnp.sum(images.mean(kept * strength), axis=0) / jnp.sum(images.mean(strength), axis=0)


def edges_kept_kumar(images: Comparison) -> jax.Array:
    """Qabf (b), Kumar's code = [sum over X of Q_XF w_X] / [sum over X of w_X].

    Q is the root of 0.9999 / (1 + e^(-19(G-0.5))) x 0.9995 / (1 + e^(-22(A-0.5))), Sobel over 8
    with mirrored borders, w = g^1.5 where g >= 2, else 0.001.  0 to 1; higher is better.
    Shreyamsha Kumar 2013.
    """
    kept, weight, _ = images.once(_kumar)
    return jnp.sum(images.mean(kept * weight), axis=0) / jnp.sum(images.mean(weight), axis=0)


def loss_of_information(images: Comparison) -> jax.Array:
    """Labf = [sum over X of r (1 - Q_XF) w_X] / [sum over X of w_X], Q and w as in Qabf (b).

    r = 1 where the edge of F is no stronger than that of one of the sources.  0 to 1; lower is
    better.  Petrovic and Xydeas 2005.
    """
    kept, weight, added = images.once(_kumar)
    return jnp.sum(images.mean((1 - kept) * weight * ~added), axis=0) / jnp.sum(
        images.mean(weight), axis=0
    )


def artefacts(images: Comparison) -> jax.Array:
    """Nabf, modified = [sum over X of r (1 - Q_XF) w_X] / [sum over X of w_X], see Qabf (b).

    r = 1 where the edge of F is stronger than those of all sources.  0 to 1; lower is better; Qabf
    (b) + Labf + Nabf = 1.  Shreyamsha Kumar 2013; the version in published tables.
    """
    kept, weight, added = images.once(_kumar)
    return jnp.sum(images.mean((1 - kept) * weight * added), axis=0) / jnp.sum(
        images.mean(weight), axis=0
    )


def artefacts_petrovic(images: Comparison) -> jax.Array:
    """Nabf, original = sum r [sum over X of 1 - Q_XF] [sum over X of w_X] / sum over X of w_X.

    r, Q and w as in the modified one, which it exceeds.  At least 0; lower is better.  Petrovic and
    Xydeas 2005.
    """
    kept, weight, added = images.once(_kumar)
    weight = jnp.sum(weight, axis=0)
    return images.mean(added * jnp.sum(1 - kept, axis=0) * weight) / images.mean(weight)


def local_edge_ratio(images: Comparison) -> jax.Array:
    """Q_G, Qabf (c) of Liu's toolbox = mean of [sum over X of Q_XF g_X] / [sum over X of g_X].

    Q = 1 / (1 + e^(-10(G-0.5))) x 1 / (1 + e^(-20(A-0.75))).  The mean of local ratios, not the
    ratio of sums: flat regions count as much as edges.  0 to 1; higher is better.
    """
    x, y = images.sobel
    angle, angle_f = images.split(jnp.arctan(y / jnp.where(x == 0, _TINY, x)))
    strength, strength_f = images.split(magnitude(x, y))
    weight, own = (jnp.where(g == 0, _TINY, g) for g in (strength, strength_f))
    relative = jnp.where(strength > strength_f, strength_f / weight, weight / own)
    alike = _agreement(angle, angle_f)
    kept = _logistic(relative, 1, -10, 0.5) * _logistic(alike, 1, -20, 0.75)
    return images.mean(jnp.sum(kept * weight, axis=0) / jnp.sum(weight, axis=0))


def _kumar(images: Comparison) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Preservation and weight of each source, and where the fusion added an edge, `(M, H, W)`."""
    x, y = (response / 8 for response in sobel(images.stack, "reflect", images.size))
    # The angle from the vertical; 0 where nothing changes.
    level = jnp.sign(x) * _RIGHT_ANGLE
    angle = jnp.where(y == 0, level, jnp.arctan(x / jnp.where(y == 0, 1, y)))
    (angle, angle_f), (strength, strength_f) = images.split(angle), images.split(magnitude(x, y))
    low, high = jnp.minimum(strength, strength_f), jnp.maximum(strength, strength_f)
    relative = low / jnp.where(high == 0, 1, high)
    alike = _agreement(angle, angle_f)
    kept = jnp.sqrt(_logistic(relative, 0.9999, -19, 0.5) * _logistic(alike, 0.9995, -22, 0.5))
    weight = jnp.where(strength >= 2, strength * jnp.sqrt(strength), 0.001)
    return kept, weight, jnp.all(strength_f > strength, axis=0)


def _agreement(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 for parallel edges, 0 for those at right angles: the direction of an edge has no sign."""
    return jnp.abs(jnp.abs(a - b) - _RIGHT_ANGLE) / _RIGHT_ANGLE


def _logistic(value: jax.Array, gain: float, slope: float, centre: float) -> jax.Array:
    return gain / (1 + jnp.exp(slope * (value - centre)))
