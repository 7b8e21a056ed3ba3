"""The modulated final layer."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.heads import make_head

pytestmark = pytest.mark.usefixtures("exact_products")


def test_the_final_layer_normalises_shifts_and_scales_by_the_timestep(models, inputs):
    """LayerNorm(h) * (1 + scale) + shift, shift first, from SiLU and a linear map of the time."""
    hidden, time, sources, valid, grid = inputs
    config = dataclasses.replace(models.PIXEL, head="linear")
    head = make_head(config, rngs=nnx.Rngs(0))
    random = np.random.default_rng(3)
    for _, parameter in nnx.to_flat_state(nnx.state(head)):
        parameter[...] = random.standard_normal(parameter.shape).astype("f4")
    p = nnx.to_pure_dict(nnx.state(head))["output"]

    silu = time / (1 + np.exp(-time))
    shift, scale = np.moveaxis(
        np.tensordot(silu, p["modulation"]["kernel"], 1) + p["modulation"]["bias"], -2, 0
    )
    normal = hidden - hidden.mean(-1, keepdims=True)
    normal /= np.sqrt(np.square(normal).mean(-1, keepdims=True) + 1e-6)
    modulated = normal * (1 + scale[:, :, None]) + shift[:, :, None]
    patches = np.tensordot(modulated, p["linear"]["kernel"], 1) + p["linear"]["bias"]
    prediction = np.asarray(head(hidden, time, sources, valid, grid))
    side, (rows, columns) = config.patch_size, grid
    for index in np.ndindex(rows, columns):
        corner = prediction[
            :, :, index[0] * side : (index[0] + 1) * side, index[1] * side : (index[1] + 1) * side
        ]
        expected = patches[:, :, index[0] * columns + index[1]]
        np.testing.assert_allclose(corner, expected, rtol=1e-4, atol=1e-3)
