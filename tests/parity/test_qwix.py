"""Quantised matrices against those of qwix."""

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.model.quantization import QUANTIZATIONS

qwix = pytest.importorskip("qwix", reason="parity with qwix needs it")
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def matrix():
    return jnp.asarray(np.random.default_rng(0).standard_normal((256, 48)), jnp.float32)


def test_codes_of_nf4_are_those_of_qwix_in_its_tiles_of_64(matrix):
    theirs = qwix.quantize(matrix, "nf4", channelwise_axes=(1,), tiled_axes={0: 64})
    packed = np.asarray(QUANTIZATIONS["nf4"].quantize(matrix).codes)
    ours = np.concatenate([packed & 15, packed >> 4], axis=1).reshape(matrix.shape)
    # Ours are relative to scales that were rounded to bfloat16.
    assert np.mean(ours != np.asarray(theirs.qvalue).astype(int)) < 0.02


@pytest.mark.parametrize(("name", "tiles"), [("int8", {}), ("nf4", {0: 64})])
def test_the_error_is_that_of_qwix(matrix, name, tiles):
    theirs = qwix.quantize(matrix, name, channelwise_axes=(1,), tiled_axes=tiles)
    scheme = QUANTIZATIONS[name]
    ours = scheme.dequantize(scheme.quantize(matrix))
    error, expected = (
        float(jnp.sqrt(jnp.mean(jnp.square(x - matrix)))) for x in (ours, qwix.dequantize(theirs))
    )
    assert error == pytest.approx(expected, rel=0.02)
