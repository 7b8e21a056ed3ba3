"""Information measures on the histograms of grey levels: one bin per level, in bits."""

import itertools

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.histograms import joint_histogram

_CVEJIC_ORDER = 1.85
_NAVA_ORDER = 0.43137


def entropy(images: Comparison) -> jax.Array:
    """EN = -sum p log2 p over the levels of the fused image.

    Bits per pixel, 0 (flat) to 8; higher is more varied, noise included.  Roberts, van Aardt and
    Ahmed 2008.
    """
    return bits(images.joint_histograms[0].sum(axis=-2))


def mutual_information(images: Comparison) -> jax.Array:
    """MI = sum over the sources of MI(X, F) = H(X) + H(F) - H(X, F).

    Bits, **summed** over the sources; 0 to 8 for each; higher is better.  Qu, Zhang and Yan 2002.
    """
    return jnp.sum(images.once(_shared), axis=0)


def normalised_mutual_information(images: Comparison) -> jax.Array:
    """NMI (Q_MI) = 2 sum over the sources of MI(X, F) / (H(X) + H(F)).

    0 to 1 for each source, **summed**; higher is better; undefined where F and a source are flat.
    Hossny, Nahavandi and Creighton 2008.  Stretching the images first, as Liu's toolbox does,
    relabels the levels and changes nothing.
    """
    of_source, of_fused = _marginals(images.joint_histograms)
    return 2 * jnp.sum(images.once(_shared) / (bits(of_source) + bits(of_fused)), axis=0)


def cross_entropy(images: Comparison) -> jax.Array:
    """CE = mean over the sources of sum p_X log2(p_X / p_F), over levels that both images have.

    Bits; 0 for equal histograms; lower is better.  Bulanon, Burks and Alchanatis 2009, who call
    this divergence a cross entropy.
    """
    of_source, of_fused = _marginals(images.joint_histograms)
    both = (of_source > 0) & (of_fused > 0)
    log = jnp.log2(jnp.where(both, of_source / of_fused, 1.0))
    return jnp.mean(jnp.sum(of_source * log, axis=-1) / of_source.sum(axis=-1), axis=0)


def tsallis_information(images: Comparison) -> jax.Array:
    """Q_TE = sum over the sources of I^q(X, F), Tsallis' mutual information of order q = 1.85.

    I^q = [1 - sum p_xf^q / (p_x p_f)^(q-1)] / (1 - q).  At least 0, **summed**; higher is better.
    Cvejic, Canagarajah and Bull 2006.
    """
    return jnp.sum(_tsallis(images.joint_histograms, _CVEJIC_ORDER), axis=0)


def normalised_tsallis_information(images: Comparison) -> jax.Array:
    """Q_TE after Nava = (I^q(A,F) + I^q(B,F)) / (H(A)^q + H(B)^q + I^q(A,B)), q = 0.43137.

    Of two sources; H in bits.  At least 0; higher is better; undefined where both sources are flat.
    Nava, Cristobal and Escalante-Ramirez 2007.
    """
    q, joint = _NAVA_ORDER, images.joint_histograms
    between = _tsallis(joint_histogram(images.sources[0], images.sources[1], images.size), q)
    entropies = bits(joint.sum(axis=-1)) ** q
    return jnp.sum(_tsallis(joint, q), axis=0) / (jnp.sum(entropies, axis=0) + between)


def nonlinear_correlation(images: Comparison) -> jax.Array:
    """Q_NCIE = 1 + sum (l/n) log256(l/n), l the eigenvalues of the n images' correlations.

    The correlation of two images is their mutual information over 8 bits; the images are the
    sources and F, n = K + 1.  1 - log256(n) (nothing in common; 0.80 for two sources) to 1; higher
    is better.  Wang, Shen and Jin 2008.
    """
    shared = images.once(_shared) / 8
    sources, fused = shared.shape
    size = sources + 1
    matrix = jnp.broadcast_to(jnp.eye(size), (fused, size, size))
    matrix = matrix.at[:, :-1, -1].set(shared.T).at[:, -1, :-1].set(shared.T)
    for i, j in itertools.combinations(range(sources), 2):
        between = (
            shared_bits(joint_histogram(images.sources[i], images.sources[j], images.size)) / 8
        )
        matrix = matrix.at[:, i, j].set(between).at[:, j, i].set(between)
    shares = jnp.maximum(jnp.linalg.eigvalsh(matrix), 0) / size
    logs = jnp.log2(jnp.where(shares > 0, shares, 1)) / 8
    return 1 + jnp.sum(shares * logs, axis=-1)


def bits(counts: jax.Array) -> jax.Array:
    """Returns the entropies of histograms `(..., 256)`."""
    size = counts.sum(axis=-1, keepdims=True)
    # Written with 1/p = size / count, which is exactly 1, so exactly 0 bits, for a flat image.
    terms = counts * jnp.log2(size / jnp.maximum(counts, 1))
    return jnp.sum(jnp.where(counts > 0, terms, 0), axis=-1) / size[..., 0]


def shared_bits(joint: jax.Array) -> jax.Array:
    """Returns the mutual information of joint histograms `(..., 256, 256)`.

    As sum p(x,f) log2 [p(x,f) / (p(x) p(f))], which is H(X) + H(F) - H(X, F) without subtracting
    entropies several times its size.
    """
    return _expected(joint, jnp.log2(_dependence(joint)))


def _shared(images: Comparison) -> jax.Array:
    return shared_bits(images.joint_histograms)


def _marginals(joint: jax.Array) -> tuple[jax.Array, jax.Array]:
    return joint.sum(axis=-1), joint.sum(axis=-2)


def _tsallis(joint: jax.Array, order: float) -> jax.Array:
    # sum p [(p_xf / p_x p_f)^(q-1) - 1] / (q - 1): again nothing large is subtracted.
    return _expected(joint, jnp.expm1((order - 1) * jnp.log(_dependence(joint))) / (order - 1))


def _dependence(joint: jax.Array) -> jax.Array:
    """p(x,f) / (p(x) p(f)), 1 where the pair does not occur."""
    of_x, of_f = joint.sum(axis=-1, keepdims=True), joint.sum(axis=-2, keepdims=True)
    size = of_x.sum(axis=-2, keepdims=True)
    # From products of counts, which make it exactly 1 where either image is flat.
    return jnp.where(joint > 0, joint * size / jnp.maximum(of_x * of_f, 1), 1.0)


def _expected(joint: jax.Array, values: jax.Array) -> jax.Array:
    """The expectation of a value that depends on the pair of levels."""
    by_row = jnp.sum(joint * values, axis=-1)
    return jnp.sum(by_row, axis=-1) / joint.sum(axis=(-2, -1))
