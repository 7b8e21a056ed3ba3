"""The head `bands` on a whole frame, from the values of its cells."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.heads.bands_planes import compose

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]


@pytest.mark.parametrize("grid", [(8, 8), (3, 5)])  # strips of 1024 pixels, and rows
def test_a_frame_is_that_of_the_head(models, grid):
    config = dataclasses.replace(models.PIXEL, patch_size=8, head="bands")
    model = models.build(config)
    random = np.random.default_rng(1)
    for _, parameter in nnx.to_flat_state(nnx.state(model.head)):
        parameter[...] = 0.3 * random.standard_normal(parameter.shape).astype("f4")
    condition = models.condition(config, batch=1, grid=grid)
    condition = condition._replace(image_valid=np.ones_like(condition.image_valid))
    noisy = random.standard_normal((1, grid[0] * 8, grid[1] * 8, 3)).astype("f4")
    graph, parameters = nnx.split(model)

    @jax.jit
    def both(parameters, condition, noisy, t):
        model = nnx.merge(graph, parameters)
        encoded = model.encode(condition)
        cells = model.decide(encoded, condition, noisy, t)
        frame = compose(model.head, cells[0], condition.images[0])
        return model.denoise(encoded, condition, noisy, t)[0], cells, frame

    expected, cells, found = both(parameters, condition, noisy, np.array([0.5], "f4"))
    assert cells.shape[1:3] == (grid[0] * 2, grid[1] * 2)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
