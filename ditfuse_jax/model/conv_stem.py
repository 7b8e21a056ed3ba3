"""A convolutional stem over the sources: texture features for the target tokens."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, RMSNorm
from ditfuse_jax.model.patches import patchify
from ditfuse_jax.model.rngs import Rngs

CELL_SIZE = 4  # stride and kernel size of the first convolution, in pixels
STEM_WIDTH = 64  # its channels
# Neighbouring pixels are correlated, so embedded patches of photographs are several times larger
# than embedded noise; features of unit variance would hardly count beside them.
_OUTPUT_SCALE = 4.0


class ConvStem(nnx.Module):
    """Two convolutions and a projection of each patch, with the same parameters for all sources.

    A linear map of a patch captures its colours but not its texture, which depends on magnitudes;
    transformers over such patches learn recognition slowly.  A few convolutions before them help
    (Xiao et al. 2021, "Early Convolutions Help Transformers See Better").
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        def linear(inputs: tuple[int, ...], outputs: int, axis: str | None = None) -> Linear:
            axes, bias = (*(None,) * len(inputs), axis), len(inputs) > 1
            return Linear(inputs, (outputs,), axes, rngs=rngs, dtype=config.dtype, bias=bias)

        width, self.side = config.hidden_size, config.patch_size // CELL_SIZE
        self.see = linear((CELL_SIZE, CELL_SIZE, config.channels), STEM_WIDTH)
        self.look_around = linear((9, STEM_WIDTH), STEM_WIDTH)
        self.norm = RMSNorm(STEM_WIDTH, eps=config.rms_norm_eps, dtype=config.dtype)
        self.merge = linear((self.side, self.side, STEM_WIDTH), width, "embed")
        self.merged_norm = RMSNorm(width, eps=config.rms_norm_eps, dtype=config.dtype)
        self.out = linear((width,), width, "embed")

    def __call__(self, sources: jax.Array, valid: jax.Array) -> jax.Array:
        """Computes features for the target tokens, summed over the valid sources.

        Args:
          sources: (B, n, H, W, C).
          valid: (B, n) False where a source is absent.

        Returns:
          (B, P, D).
        """
        batch, count, height, width, _ = sources.shape
        sources = jnp.where(valid[:, :, None, None, None], sources, 0.0)
        x = jax.nn.silu(self.see(patchify(sources, CELL_SIZE)))
        x = x.reshape(batch, count, height // CELL_SIZE, width // CELL_SIZE, STEM_WIDTH)
        x = x + jax.nn.silu(self.look_around(_neighbourhoods(x)))
        x = jax.nn.silu(self.merge(patchify(self.norm(x), self.side)))
        x = jnp.where(valid[:, :, None, None], x, 0.0)
        return _OUTPUT_SCALE * self.out(self.merged_norm(jnp.sum(x, axis=1)))


def _neighbourhoods(x: jax.Array) -> jax.Array:
    """(..., H, W, C) -> (..., H, W, 9, C): each place with its eight neighbours, edges repeated.

    A matrix product of this is a 3x3 convolution; XLA computes the gradients of its own
    convolutions slowly on CPUs.
    """
    *_, height, width, _ = x.shape
    margins = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    wide = jnp.pad(x, margins, mode="edge")
    shifted = [
        wide[..., row : row + height, column : column + width, :]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.stack(shifted, axis=-2)


def stem_layers(
    config: ModelConfig, num_images: int, patches: int
) -> dict[str, tuple[int, int, float]]:
    """Returns the stem's linear layers: name -> inputs, outputs, applications per example."""
    cells, images = (config.patch_size // CELL_SIZE) ** 2, num_images * patches
    width = config.hidden_size
    return {
        "see": (CELL_SIZE**2 * config.channels, STEM_WIDTH, images * cells),
        "look_around": (9 * STEM_WIDTH, STEM_WIDTH, images * cells),
        "merge": (cells * STEM_WIDTH, width, images),
        "out": (width, width, patches),
    }


def stem_multiplications(config: ModelConfig) -> int:
    """Returns the multiplications for each patch of a source, without the layer `out`."""
    layers = stem_layers(config, num_images=1, patches=1)
    del layers["out"]
    return int(sum(inputs * outputs * count for inputs, outputs, count in layers.values()))
