"""Classifier-free guidance by instruction and images, and its variants."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.flow import Guidance, GuidanceRule, combine

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


X, COND, IMG, NEG = np.random.default_rng(1).standard_normal((4, 2, 5, 6, 3)).astype("f4")
VARIANTS = {
    "interval": {"interval": (0.2, 0.6)},
    "rescale": {"rescale": 0.7},
    "eta": {"eta": 0.0},
    "threshold": {"threshold": 0.3},
    "momentum": {"momentum": -0.5},
    "all": {"rescale": 0.5, "eta": 0.2, "threshold": 0.5, "momentum": -0.75},
}


def guided(text, image, t=0.4, average=None, **settings):
    """The guided velocity, and what the next evaluation gets."""
    guidance = Guidance(text, image, GuidanceRule(**settings))
    velocities = {"cond": COND, "img": IMG, "neg": NEG}
    stacked = np.stack([velocities[name] for name in guidance.branches])
    weights = np.array([guidance.weights[name] for name in guidance.branches], "f4")
    return guidance.rule(stacked, weights, X, np.float32(t), average)


def published(text, image):
    return NEG + image * (IMG - NEG) + text * (COND - IMG)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_scales_of_one_give_the_conditional_branch_under_every_rule(settings):
    guidance = Guidance(1.0, 1.0, GuidanceRule(**settings))
    assert guidance.branches == ("cond",)
    np.testing.assert_array_equal(guided(1.0, 1.0, **settings)[0], COND)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_rule_needs_the_conditional_branch_first_even_without_weight(settings):
    rule = GuidanceRule(**settings)
    assert Guidance(0.0, 0.0, rule).branches == ("cond", "neg")
    assert Guidance(0.0, 0.0).branches == ("neg",)
    assert Guidance(2.0, 1.6, rule).branches == ("cond", "img", "neg")


@pytest.mark.parametrize(
    "settings",
    [
        {"interval": (0.0, 1.0)},
        {"interval": (0.0, 0.999)},
        {"interval": (1e-9, 1.0)},
        {"rescale": 0.0, "interval": (0.0, 0.9)},
        {"eta": 1.0, "threshold": 0.0, "momentum": 0.0},
        {"eta": 1.0, "threshold": 1e6},
        {"momentum": -0.5},  # nothing to remember yet
    ],
)
def test_settings_without_effect_give_the_published_formula(settings):
    found, _ = guided(2.0, 1.6, **settings)
    np.testing.assert_allclose(found, published(2.0, 1.6), atol=1e-5)


@pytest.mark.parametrize(("t", "inside"), [(0.1, 0), (0.2, 1), (0.4, 1), (0.6, 1), (0.7, 0)])
def test_outside_of_the_interval_the_velocity_is_the_conditional_one(t, inside):
    found, _ = guided(2.0, 1.6, t=t, interval=(float(np.float32(0.2)), float(np.float32(0.6))))
    np.testing.assert_allclose(found, published(2.0, 1.6) if inside else COND, atol=1e-5)


def test_full_rescaling_gives_the_conditional_deviation_and_half_of_it_the_mean_of_both():
    plain = published(3.0, 1.6)
    full, _ = guided(3.0, 1.6, rescale=1.0)
    half, _ = guided(3.0, 1.6, rescale=0.5)
    np.testing.assert_allclose(np.std(full, (1, 2, 3)), np.std(COND, (1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(half, (full + plain) / 2, atol=1e-5)


def test_without_the_parallel_part_the_clean_image_changes_only_across_itself():
    t = 0.4
    found, _ = guided(3.0, 3.0, t=t, eta=0.0)
    clean = X + (1 - t) * COND
    change = (1 - t) * (np.asarray(found) - COND)
    along = (change * clean).sum((1, 2, 3)) / np.linalg.norm(clean.reshape(2, -1), axis=1)
    np.testing.assert_allclose(along, 0, atol=1e-4)
    assert np.abs(change).max() > 0.1


def test_a_threshold_limits_the_differences_of_clean_images():
    t, threshold = 0.4, 0.05
    found, _ = guided(3.0, 3.0, t=t, threshold=threshold)
    change = (1 - t) * (np.asarray(found) - COND) / (3.0 - 1)
    np.testing.assert_allclose(np.sqrt((change**2).mean((1, 2, 3))), threshold, rtol=1e-4)


def test_momentum_adds_the_earlier_differences():
    t, momentum = 0.4, -0.5
    _, average = guided(2.0, 2.0, t=t, momentum=momentum)
    np.testing.assert_allclose(average, (1 - t) * (COND - NEG)[None], atol=1e-6)
    again, _ = guided(2.0, 2.0, t=t, momentum=momentum, average=average)
    np.testing.assert_allclose(again, COND + (1 + momentum) * (COND - NEG), atol=1e-5)


def test_momentum_remembers_nothing_of_times_outside_of_the_interval():
    before = np.ones((1, *X.shape), "f4")
    settings = {"momentum": -0.5, "interval": (0.2, 0.6), "average": before}
    np.testing.assert_array_equal(guided(2.0, 2.0, t=0.1, **settings)[1], before)
    assert np.abs(guided(2.0, 2.0, t=0.3, **settings)[1] - before).max() > 0.1
