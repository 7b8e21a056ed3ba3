"""The convolutional stem over the sources."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.conv_stem import CELL_SIZE, STEM_WIDTH, ConvStem
from tests.model import random_models as models

pytestmark = pytest.mark.medium

CONFIG = dataclasses.replace(models.PIXEL, patch_size=8)


@pytest.fixture(scope="module")
def stem():
    return ConvStem(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def sources():
    return jax.random.normal(jax.random.key(0), (2, 2, 24, 32, 3))


BOTH = jnp.ones((2, 2), bool)


def test_a_fresh_stem_s_features_have_the_scale_of_embedded_photographs(stem, sources):
    for scale in (0.1, 10.0):
        out = stem(scale * sources, BOTH)
        assert 2 < float(jnp.sqrt(jnp.mean(jnp.square(out)))) < 8


def test_it_equals_xla_s_convolutions(stem, sources):
    """Computes one source at a time with XLA's convolutions."""

    def reference(x):
        cells = jax.lax.conv_general_dilated(
            x,
            stem.see.kernel[...],
            (CELL_SIZE, CELL_SIZE),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        cells = jax.nn.silu(cells + stem.see.bias[...])
        wide = jnp.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        around = jax.lax.conv_general_dilated(
            wide,
            stem.look_around.kernel[...].reshape(3, 3, STEM_WIDTH, STEM_WIDTH),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        cells = stem.norm(cells + jax.nn.silu(around + stem.look_around.bias[...]))
        merged = jax.lax.conv_general_dilated(
            cells,
            stem.merge.kernel[...],
            (2, 2),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return jax.nn.silu(merged + stem.merge.bias[...]).reshape(x.shape[0], 12, -1)

    merged = stem.merged_norm(reference(sources[:, 0]) + reference(sources[:, 1]))
    np.testing.assert_allclose(stem(sources, BOTH), 4 * stem.out(merged), rtol=1e-4, atol=1e-4)


def test_the_order_of_sources_does_not_matter_and_absent_ones_are_ignored(stem, sources):
    swapped = stem(sources[:, ::-1], BOTH)
    np.testing.assert_allclose(stem(sources, BOTH), swapped, rtol=1e-5, atol=1e-5)
    first = jnp.array([[True, False]] * 2)
    spoilt = sources.at[:, 1].set(jnp.nan)
    np.testing.assert_array_equal(stem(spoilt, first), stem(sources[:, :1], BOTH[:, :1]))


@pytest.mark.parametrize("changes", [{"patch_size": 6}, {"latent_downsampling": 8, "channels": 4}])
def test_latents_and_indivisible_patches_are_refused(changes):
    settings = {"prediction": "velocity", "head": "linear"} | changes
    with pytest.raises(UserError, match=r"model\.conv_stem needs a model on pixels"):
        dataclasses.replace(CONFIG, **settings)
