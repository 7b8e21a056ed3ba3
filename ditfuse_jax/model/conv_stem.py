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
        sources = jnp.where(valid[:, :, None, None, None], sources, 0.0)
        x = self._cells(sources)
        x = self._patches(x, self.look_around(_neighbourhoods(_with_edges(x))))
        x = jnp.where(valid[:, :, None, None], x, 0.0)
        return self._output(x)

    def wide_cells(self, sources: jax.Array) -> jax.Array:
        """Features of cells for `row_of_patches`, of sources (B, n, H, W, C) that are all there."""
        return _with_edges(self._cells(sources))

    def row_of_patches(self, wide_cells: jax.Array, row: jax.Array) -> jax.Array:
        """What a call returns for one row of patches, (B, w, D)."""
        start, size = self.side * row, self.side + 2
        rows = jax.lax.dynamic_slice_in_dim(wide_cells, start, size, axis=2)
        return self._output(self._patches(rows[:, :, 1:-1, 1:-1], self._convolved(rows)))

    def _cells(self, sources: jax.Array) -> jax.Array:
        """(B, n, H, W, C) -> (B, n, h, w, F), features of squares of pixels."""
        batch, count, height, width, _ = sources.shape
        x = jax.nn.silu(self.see(patchify(sources, CELL_SIZE)))
        return x.reshape(batch, count, height // CELL_SIZE, width // CELL_SIZE, STEM_WIDTH)

    def _convolved(self, wide: jax.Array) -> jax.Array:
        """`look_around` of neighbourhoods (B, n, h + 2, w + 2, F): faster without gradients."""
        kernel = self.look_around.kernel[...].reshape(3, 3, STEM_WIDTH, STEM_WIDTH)
        images = wide.reshape(-1, *wide.shape[2:])
        order = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=order)
        assert self.look_around.bias is not None
        return (x + self.look_around.bias[...]).reshape(*wide.shape[:2], *x.shape[1:])

    def _patches(self, x: jax.Array, around: jax.Array) -> jax.Array:
        """Cells (B, n, h, w, F), and what `look_around` saw of them, to patches (B, n, P, D)."""
        x = x + jax.nn.silu(around)
        return jax.nn.silu(self.merge(patchify(self.norm(x), self.side)))

    def _output(self, x: jax.Array) -> jax.Array:
        """(B, n, P, D) -> (B, P, D)."""
        return _OUTPUT_SCALE * self.out(self.merged_norm(jnp.sum(x, axis=1)))


def _with_edges(x: jax.Array) -> jax.Array:
    """(..., H, W, C) -> (..., H + 2, W + 2, C), edges repeated."""
    margins = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    return jnp.pad(x, margins, mode="edge")


def _neighbourhoods(wide: jax.Array) -> jax.Array:
    """(..., H + 2, W + 2, C) -> (..., H, W, 9, C): each place with its eight neighbours.

    A matrix product of this is a 3x3 convolution; XLA computes the gradients of its own
    convolutions slowly on CPUs.
    """
    height, width = wide.shape[-3] - 2, wide.shape[-2] - 2
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
