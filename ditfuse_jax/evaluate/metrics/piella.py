"""Similarity to the most salient source at each pixel: Piella, Cvejic, Yang."""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.gradients import magnitude, prewitt
from ditfuse_jax.evaluate.metrics.structural import similarity, ssim_maps
from ditfuse_jax.evaluate.metrics.windows import Windows, gaussian_window

_SMALL_WINDOW = gaussian_window(7, sigma=1.5)
SMALL = len(_SMALL_WINDOW)
_TINY = 2e-16
_ALIKE = 0.75


def fusion_quality(images: Comparison) -> jax.Array:
    """Q_S (Q_0) = mean of the sum over X of l_X SSIM(X, F), l_X = s_X^2 / sum of s_X^2.

    s: local variances under SSIM's window; equal shares where all are flat.  -1 to 1; higher is
    better.  Piella and Heijmans 2003.
    """
    quality, _ = images.once(_weighted)
    return images.mean(quality)


def weighted_fusion_quality(images: Comparison) -> jax.Array:
    """Q_W = Q_S with every pixel weighted by the largest s_X^2 of the sources.

    -1 to 1; higher is better; undefined where all sources are flat.  Piella and Heijmans 2003.
    """
    quality, saliency = images.once(_weighted)
    return images.mean(quality * saliency) / images.mean(saliency)


def edge_fusion_quality(images: Comparison) -> jax.Array:
    """Q_E = Q_W of the images x Q_W of their edge images (Prewitt, zeros beyond the borders).

    -1 to 1; higher is better; undefined where all sources are flat.  Piella and Heijmans 2003 with
    the exponent 1.
    """
    edges, count = magnitude(*prewitt(images.stack)), len(images.sources)
    of_edges = weighted_fusion_quality(Comparison(edges[:count], edges[count:], size=images.size))
    return images.once(weighted_fusion_quality) * of_edges


def cvejic_quality(images: Comparison) -> jax.Array:
    """Q_C = mean of l UIQI(A, F) + (1 - l) UIQI(B, F), l = s_AF / (s_AF + s_BF) clipped to 0..1.

    Of two sources.  s: local covariances under a 7 x 7 Gaussian of sigma 1.5; UIQI: SSIM with
    C1 = C2 = 2e-16; l = 1/2 for 0/0.  -1 to 1; higher is better.  Cvejic, Loza, Bull and
    Canagarajah 2005.
    """
    _, covariances, (to_a, to_b) = images.once(_small_windows)
    share = jnp.clip(_share(*covariances), 0, 1)
    return images.mean(share * to_a + (1 - share) * to_b)


def yang_quality(images: Comparison) -> jax.Array:
    """Q_Y = mean of l S(A, F) + (1 - l) S(B, F) where S(A, B) >= 0.75, elsewhere the larger S.

    Of two sources.  l = s_A^2 / (s_A^2 + s_B^2), 1/2 for 0/0; window and S as in Q_C.  -1 to 1;
    higher is better.  Yang, Zhang, Wang and Liu 2008.
    """
    sources, _, (to_a, to_b) = images.once(_small_windows)
    a, b = sources[0], sources[1]
    alike = similarity(a, b, a.covariance(b), _TINY, _TINY) >= _ALIKE
    share = _share(a.variance, b.variance)
    return images.mean(jnp.where(alike, share * to_a + (1 - share) * to_b, jnp.maximum(to_a, to_b)))


def _weighted(images: Comparison) -> tuple[jax.Array, jax.Array]:
    """Similarity to the sources, each by its share of the variance; the largest variance."""
    variance = images.windows[0].variance
    everything = jnp.sum(variance, axis=0)
    equal = 1 / len(variance)
    shares = jnp.where(everything > 0, variance / jnp.where(everything > 0, everything, 1), equal)
    return jnp.sum(shares * images.once(ssim_maps), axis=0), jnp.max(variance, axis=0)


def _small_windows(images: Comparison) -> tuple[Windows, jax.Array, jax.Array]:
    """The sources under the small window, their covariances and UIQI with the fused images."""
    sources, fused = images.split(Windows(images.stack, _SMALL_WINDOW))
    covariances = sources.covariance(fused)
    return sources, covariances, similarity(sources, fused, covariances, _TINY, _TINY)


def _share(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(a + b == 0, 0.5, a / jnp.where(a + b == 0, 1, a + b))
