"""Patches of images and the fixed two-dimensional sin-cos position embedding."""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.model.config import ModelConfig

# The coordinate of a table cell is its index * 64 / table size (PixArt, Chen et al. 2023; OmniGen).
_BASE_GRID = 64


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """Splits (..., H, W, C) into patches (..., H/p * W/p, p, p, C), row by row."""
    *lead, height, width, channels = images.shape
    rows, columns = height // patch, width // patch
    x = images.reshape(*lead, rows, patch, columns, patch, channels)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*lead, rows * columns, patch, patch, channels)


def unpatchify(patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Joins patches (..., h * w, p, p, C) to (..., h * p, w * p, C); inverts `patchify`."""
    *lead, _, patch, _, channels = patches.shape
    rows, columns = grid
    x = patches.reshape(*lead, rows, columns, patch, patch, channels)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*lead, rows * patch, columns * patch, channels)


def position_table(config: ModelConfig, grid: tuple[int, int]) -> jax.Array:
    """Computes the sin-cos position embedding, centre-cropped to the grid.

    The first half of the channels encodes the column, the second half the row; each half consists
    of sines, then cosines, with frequencies 10000^(-2i / (D/2)).

    Args:
      config: width and size of the full table.
      grid: (rows, columns) of patches.

    Returns:
      (rows * columns, D) float32.
    """
    half = config.hidden_size // 2
    frequencies = 10000.0 ** (-np.arange(half // 2, dtype=np.float64) / (half / 2))

    def encode(count: int) -> np.ndarray:
        start = (config.pos_embed_max_size - count) // 2
        cells = (start + np.arange(count)) * (_BASE_GRID / config.pos_embed_max_size)
        angles = cells[:, None] * frequencies[None]
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)

    rows, columns = grid
    # The halves are joined on the device: the full table would be a huge constant in the program.
    by_column = jnp.broadcast_to(encode(columns)[None, :], (rows, columns, half))
    by_row = jnp.broadcast_to(encode(rows)[:, None], (rows, columns, half))
    return jnp.concatenate([by_column, by_row], axis=-1).reshape(rows * columns, 2 * half)
