"""What a few convolutions make of the sources: texture, at once, for the target tokens."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, RMSNorm
from ditfuse_jax.model.patches import patchify

CELL = 4  # pixels along the side of the squares that are seen first
WIDTH = 64  # features of each
# Neighbouring pixels agree, so photographs' patches come out of a linear map several times as large
# as what is drawn at random; beside them a signal of one would hardly count.
_LOUDNESS = 4.0


class ConvStem(nnx.Module):
    """Cells of a few pixels, each with its neighbours, then a patch of them; all sources alike.

    A linear map of a whole patch knows its colours but not its texture, which is about magnitudes;
    transformers over such patches learn to recognise things late and from many images.  A few
    convolutions before them change that (Xiao et al. 2021, "Early Convolutions Help Transformers
    See Better").
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        def linear(inputs: tuple[int, ...], outputs: int, axis: str | None = None) -> Linear:
            axes, bias = (*(None,) * len(inputs), axis), len(inputs) > 1
            return Linear(inputs, (outputs,), axes, rngs=rngs, dtype=config.dtype, bias=bias)

        width, self.side = config.hidden_size, config.patch_size // CELL
        self.see = linear((CELL, CELL, config.channels), WIDTH)
        self.look_around = linear((9, WIDTH), WIDTH)
        self.norm = RMSNorm(WIDTH, eps=config.rms_norm_eps, dtype=config.dtype)
        self.merge = linear((self.side, self.side, WIDTH), width, "embed")
        self.merged_norm = RMSNorm(width, eps=config.rms_norm_eps, dtype=config.dtype)
        self.out = linear((width,), width, "embed")

    def __call__(self, sources: jax.Array, valid: jax.Array) -> jax.Array:
        """Sources (B, n, H, W, C), of which those `valid` (B, n) count -> (B, P, D)."""
        batch, count, height, width, _ = sources.shape
        sources = jnp.where(valid[:, :, None, None, None], sources, 0.0)
        x = jax.nn.silu(self.see(patchify(sources, CELL)))
        x = x.reshape(batch, count, height // CELL, width // CELL, WIDTH)
        x = x + jax.nn.silu(self.look_around(_neighbourhoods(x)))
        x = jax.nn.silu(self.merge(patchify(self.norm(x), self.side)))
        x = jnp.where(valid[:, :, None, None], x, 0.0)
        return _LOUDNESS * self.out(self.merged_norm(jnp.sum(x, axis=1)))


def _neighbourhoods(x: jax.Array) -> jax.Array:
    """(..., H, W, C) -> (..., H, W, 9, C): every place with the eight around it, borders repeated.

    With one matrix product it makes a convolution, whose gradients XLA computes slowly on CPUs.
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


def stem_values(config: ModelConfig) -> int:
    """Multiplications for each patch of a source."""
    cells = (config.patch_size // CELL) ** 2
    of_cell = CELL * CELL * config.channels + 9 * WIDTH + config.hidden_size
    return cells * WIDTH * of_cell
