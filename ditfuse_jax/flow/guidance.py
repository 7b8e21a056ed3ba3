"""Classifier-free guidance by two conditions: the instruction and the source images.

v = v_neg + s_img * (v_img - v_neg) + s_txt * (v_cond - v_img)   (Brooks et al. 2023; OmniGen)

v_cond is the velocity for the instruction and the images, v_img for the images alone, v_neg for
the negative prompt without images.

`GuidanceRule` has the variants: guidance in a part of the times, rescaled, and projected.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.flow.solvers import Array, module_of

_TINY = 1e-12  # instead of a division by zero


@dataclasses.dataclass(frozen=True)
class GuidanceRule:
    """How the branches are combined; the defaults are the formula above.

    Attributes:
      interval: times (first, last) between which guidance applies; at others the velocity is
        v_cond (Kynkaanniemi et al. 2024, arXiv 2404.07724).
      rescale: how far the guided velocity's standard deviation is brought to that of v_cond, from
        0 (not at all) to 1 (Lin et al. 2023, arXiv 2305.08891, eq. 15 and 16).
      eta: weight of the part of a difference that is parallel to the clean image of v_cond.
      threshold: largest root mean square of a difference, 0 for no limit.  The r of the paper is
        this times the square root of the number of values of an image.
      momentum: weight of the earlier evaluations' differences; the paper's are negative.

    The last three are adaptive projected guidance (APG; Sadat et al. 2024, arXiv 2410.02416,
    algorithm 1).  Its differences are those between the clean images, x + (1 - t) v, of `cond` and
    of each other branch; with two of them each is treated on its own.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    eta: float = 1.0
    threshold: float = 0.0
    momentum: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether this is the published sum of the branches at all times."""
        return self == PLAIN

    def __call__(
        self,
        velocities: Array,
        weights: Array,
        x: Array,
        t: Array,
        average: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Returns the guided velocity (B, H, W, C) and the next evaluation's `average`.

        Arrays may be JAX's or NumPy's, and the results are of the same kind.

        Args:
          velocities: (R, B, H, W, C), one per branch; unless this is plain, `cond` is the first.
          weights: (R,) from `Guidance.weights`, in the same order.
          x: (B, H, W, C) where the velocities are.
          t: the time, below 1.
          average: what the last evaluation returned; None at first, or without momentum.
        """
        if self.plain or len(velocities) == 1:
            return combine(velocities, weights), average
        cond, xp = velocities[0], module_of(velocities)
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        if (self.eta, self.threshold, self.momentum) == (1.0, 0.0, 0.0):
            guided = combine(velocities, weights)
        else:
            differences = (1 - t) * (cond - velocities[1:])
            if self.momentum:
                before = xp.zeros_like(differences) if average is None else average
                differences += self.momentum * before
                average = xp.where(inside, differences, before)
            update = combine(self._projected(differences, x + (1 - t) * cond), -weights[1:])
            guided = cond + update / (1 - t)
        if self.rescale:
            ratio = _deviation(cond) / xp.maximum(_deviation(guided), _TINY)
            guided *= 1 + self.rescale * (ratio - 1)
        return xp.where(inside, guided, cond), average

    def start(self, num_branches: int, x: Array) -> Array | None:
        """Returns the `average` of a first evaluation for images like x; None without momentum."""
        if not self.momentum or num_branches == 1:
            return None
        return module_of(x).zeros((num_branches - 1, *x.shape), x.dtype)

    def _projected(self, differences: Array, clean: Array) -> Array:
        """Limits differences (R - 1, B, H, W, C) and weighs their part along the clean image."""
        xp = module_of(clean)
        if self.threshold:
            size = xp.sqrt(_mean(differences**2))
            differences *= xp.minimum(1.0, self.threshold / xp.maximum(size, _TINY))
        along = _mean(differences * clean) / xp.maximum(_mean(clean**2), _TINY) * clean
        return differences + (self.eta - 1) * along


PLAIN = GuidanceRule()


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Guidance scales and the branches that they need.

    Attributes:
      text: s_txt, how closely to follow the instruction.
      image: s_img, how closely to follow the source images.
      rule: how the branches are combined.
    """

    text: float = 2.0
    image: float = 1.6
    rule: GuidanceRule = PLAIN

    @property
    def branches(self) -> tuple[str, ...]:
        """Those of `cond`, `img` and `neg` whose weight is not zero; only they are computed.

        A rule that is not plain also needs `cond`.
        """
        return tuple(
            name
            for name, weight in self.weights.items()
            if weight != 0.0 or (name == "cond" and not self.rule.plain)
        )

    @property
    def weights(self) -> dict[str, float]:
        """Branch -> its coefficient in the formula above; they sum to one."""
        return {"cond": self.text, "img": self.image - self.text, "neg": 1.0 - self.image}


def combine(velocities: Array, weights: Array) -> Array:
    """Returns the weighted sum of the branches.

    Args:
      velocities: (R, B, H, W, C), one per branch.
      weights: (R,) from `Guidance.weights`, in the same order.

    Returns:
      (B, H, W, C).
    """
    if module_of(velocities) is np:
        return np.tensordot(np.asarray(weights), velocities, axes=1)
    # In full precision: the weights are differences of scales, which amplifies rounding errors.
    return jnp.tensordot(weights, velocities, axes=1, precision=jax.lax.Precision.HIGHEST)


def _mean(values: Array) -> Array:
    """The mean over all values of an image, as (..., 1, 1, 1)."""
    return module_of(values).mean(values, axis=(-3, -2, -1), keepdims=True)


def _deviation(values: Array) -> Array:
    """The standard deviation over all values of an image, as (..., 1, 1, 1)."""
    return module_of(values).std(values, axis=(-3, -2, -1), keepdims=True)
