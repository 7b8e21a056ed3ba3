"""The keys of initial values."""

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model import preset
from ditfuse_jax.model.ditfuse import DiTFuse
from ditfuse_jax.model.rngs import InitialKeys


@pytest.mark.parametrize("key", [7, jax.random.key(7)])
def test_the_keys_are_those_of_flax(key):
    ours, flax = InitialKeys(key), nnx.Rngs(params=key)
    for _ in range(4):
        assert ours.params() == flax.params()


@pytest.mark.medium
def test_a_model_has_the_initial_values_that_the_generators_of_flax_give_it():
    ours, flax = (DiTFuse(preset("nano"), rngs=kind(3)) for kind in (InitialKeys, nnx.Rngs))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(ours), nnx.state(flax))
