"""Patches of images, and the formula of the position table."""

import dataclasses

import numpy as np
import pytest

from ditfuse_jax.model.patches import patchify, position_table, unpatchify
from ditfuse_jax.model.presets import omnigen


@pytest.mark.parametrize(
    ("grid", "patch", "channels", "leading"), [((2, 3), 2, 4, (2, 5)), ((3, 1), 4, 3, ())]
)
def test_unpatchify_undoes_patchify(grid, patch, channels, leading):
    shape = (*leading, grid[0] * patch, grid[1] * patch, channels)
    images = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    np.testing.assert_array_equal(unpatchify(patchify(images, patch), grid), images)


def test_patches_are_ordered_by_rows_and_keep_the_order_of_pixels():
    image = np.random.default_rng(0).standard_normal((4, 6, 3)).astype("f4")
    patches = patchify(image, 2)
    for row, column in np.ndindex(2, 3):
        corner = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[row * 3 + column], corner)


def test_the_table_encodes_columns_in_its_first_half_and_rows_in_its_second():
    config = dataclasses.replace(omnigen(), hidden_size=8, num_heads=1, num_kv_heads=1)
    rows, columns = 3, 2
    table = np.asarray(position_table(config, (rows, columns))).reshape(rows, columns, 8)
    frequencies = [1.0, 10000.0**-0.5]
    for row, column in np.ndindex(rows, columns):
        # Centre-cropped from 192 x 192; a cell's coordinate is its index * 64 / 192.
        y, x = ((192 - 3) // 2 + row) / 3, ((192 - 2) // 2 + column) / 3
        expected = [f(c * w) for c in (x, y) for f in (np.sin, np.cos) for w in frequencies]
        np.testing.assert_allclose(table[row, column], expected, atol=1e-6)
