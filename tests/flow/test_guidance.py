"""Classifier-free guidance by instruction and images."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.flow import Guidance, combine

scales = st.floats(-4, 8)


@given(scales, scales)
def test_the_weights_sum_to_one(text, image):
    assert sum(Guidance(text, image).weights.values()) == pytest.approx(1, abs=1e-6)


@settings(max_examples=20)
@given(scales, scales)
def test_combine_computes_the_published_formula(text, image):
    cond, img, neg = np.random.default_rng(0).standard_normal((3, 2, 2, 3, 4))
    velocities = {"neg": neg, "cond": cond, "img": img}
    weights = Guidance(text, image).weights
    expected = neg + image * (img - neg) + text * (cond - img)
    stacked = np.stack([velocities[name] for name in weights]).astype("f4")
    combined = combine(stacked, np.array(list(weights.values()), "f4"))
    np.testing.assert_allclose(combined, expected, atol=2e-4)


def test_the_default_scales():
    assert Guidance() == Guidance(text=2.0, image=1.6)


@pytest.mark.parametrize(
    ("text", "image", "branches"),
    [
        (1.0, 1.0, ("cond",)),
        (2.0, 2.0, ("cond", "neg")),
        (2.0, 1.0, ("cond", "img")),
        (2.0, 1.6, ("cond", "img", "neg")),
        (0.0, 0.0, ("neg",)),
    ],
)
def test_only_branches_with_a_weight_are_needed(text, image, branches):
    assert Guidance(text, image).branches == branches


def test_combine_computes_in_full_precision_on_every_accelerator():
    """Accelerators round the inputs of products to bfloat16 or TF32 by default."""
    with jax.default_matmul_precision("default"):
        jaxpr = jax.make_jaxpr(combine)(np.zeros((3, 1, 2, 2, 4), "f4"), np.zeros(3, "f4"))
    exact = (jax.lax.Precision.HIGHEST,) * 2
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            assert equation.params["precision"] == exact
