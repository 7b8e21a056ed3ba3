"""Linear layers and norms."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.layers import Linear, RMSNorm, layer_norm


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rms_norm_computes_in_float32_for_every_input_and_output_type(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(3.0, 1.0, (64, 512)), jnp.bfloat16)
    norm = RMSNorm(512, eps=1e-5, dtype=dtype)
    norm.scale[...] = jnp.linspace(0.5, 2.0, 512)
    exact = np.asarray(x, np.float64)
    exact /= np.sqrt(np.square(exact).mean(-1, keepdims=True) + 1e-5)
    exact *= np.linspace(0.5, 2.0, 512)
    out = norm(x)
    assert out.dtype == jnp.dtype(dtype)
    # Only the result is rounded: by half a unit in the last place.
    half_unit = {"float32": 1e-6, "bfloat16": 2.0**-8 / (1 + 2.0**-8)}[dtype]
    np.testing.assert_allclose(np.asarray(out, "f4"), exact, rtol=half_unit)


def test_layer_norm_results_have_mean_zero_and_standard_deviation_one():
    x = np.random.default_rng(0).normal(5.0, 3.0, (4, 64)).astype("f4")
    out = np.asarray(layer_norm(jnp.asarray(x)))
    np.testing.assert_allclose(out.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(-1), 1, atol=1e-5)


def test_linear_contracts_all_input_dimensions_and_adds_its_bias():
    random = np.random.default_rng(0)
    linear = Linear(
        (3, 4), (5, 2), (None, None, "embed", None), rngs=nnx.Rngs(0), dtype="float32", bias=True
    )
    assert linear.bias is not None
    linear.bias[...] = jnp.asarray(random.standard_normal((5, 2)), jnp.float32)
    x = random.standard_normal((7, 3, 4)).astype("f4")
    expected = np.einsum("nij,ijkl->nkl", x, linear.kernel[...]) + np.asarray(linear.bias[...])
    np.testing.assert_allclose(linear(x), expected, atol=1e-5)
