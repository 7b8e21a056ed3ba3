"""Classifier-free guidance over two conditions: the instruction and the images.

v = v_neg + s_img * (v_img - v_neg) + s_txt * (v_cond - v_img)   (Brooks et al. 2023; OmniGen)
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Guidance scales and the branches they need.

    Attributes:
      text: s_txt, how far to follow the instruction.
      image: s_img, how far to follow the images.
    """

    text: float = 2.0
    image: float = 1.6

    @property
    def branches(self) -> tuple[str, ...]:
        """Which of `cond`, `img`, `neg` have a share in the result; work is done for these only."""
        weights = self.weights
        return tuple(name for name, weight in weights.items() if weight != 0.0)

    @property
    def weights(self) -> dict[str, float]:
        """The formula above, collected by branch; the weights sum to one."""
        return {"cond": self.text, "img": self.image - self.text, "neg": 1.0 - self.image}


def combine(velocities: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum over the branches.

    Args:
      velocities: (R, B, H, W, C), one per branch.
      weights: (R,) from `Guidance.weights`, in the same order.

    Returns:
      (B, H, W, C).
    """
    # In full precision: the weights are differences of scales and their errors would be amplified.
    return jnp.tensordot(weights, velocities, axes=1, precision=jax.lax.Precision.HIGHEST)
