"""Classifier-free guidance by two conditions: the instruction and the source images.

v = v_neg + s_img * (v_img - v_neg) + s_txt * (v_cond - v_img)   (Brooks et al. 2023; OmniGen)

v_cond is the velocity for the instruction and the images, v_img for the images alone, v_neg for
the negative prompt without images.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Guidance scales and the branches that they need.

    Attributes:
      text: s_txt, how closely to follow the instruction.
      image: s_img, how closely to follow the source images.
    """

    text: float = 2.0
    image: float = 1.6

    @property
    def branches(self) -> tuple[str, ...]:
        """Those of `cond`, `img` and `neg` whose weight is not zero; only they are computed."""
        return tuple(name for name, weight in self.weights.items() if weight != 0.0)

    @property
    def weights(self) -> dict[str, float]:
        """Branch -> its coefficient in the formula above; they sum to one."""
        return {"cond": self.text, "img": self.image - self.text, "neg": 1.0 - self.image}


def combine(velocities: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted sum of the branches.

    Args:
      velocities: (R, B, H, W, C), one per branch.
      weights: (R,) from `Guidance.weights`, in the same order.

    Returns:
      (B, H, W, C).
    """
    # In full precision: the weights are differences of scales, which amplifies rounding errors.
    return jnp.tensordot(weights, velocities, axes=1, precision=jax.lax.Precision.HIGHEST)
