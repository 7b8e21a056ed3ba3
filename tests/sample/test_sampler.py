"""The sampler: steps, guidance branches and their forward passes."""

import dataclasses
import itertools

import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.convert.reference import channels_last
from ditfuse_jax.flow import SOLVERS, Guidance, SamplingConfig, time_grid
from ditfuse_jax.model import Condition
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.sample.sampler import make_sampler, sample

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]


@pytest.mark.parametrize("implementation", sorted(IMPLEMENTATIONS))
def test_four_guided_steps_give_the_original_s_latents(official, implementation):
    golden, meta = official.golden, official.meta["sample"]
    guidance = Guidance(meta["guidance_scale"], meta["img_guidance_scale"])
    graph, parameters = nnx.split(official.model(attention=implementation))
    latents = make_sampler(graph, SamplingConfig(steps=meta["steps"]))(
        parameters,
        official.sampling,
        channels_last(golden["sample/noise"]),
        np.array([guidance.weights[name] for name in ("cond", "img", "neg")], "f4"),
    )
    expected = np.asarray(channels_last(golden["sample/latents"]))
    assert np.abs(latents - expected).max() < 1e-5 * np.abs(expected).max()


def branches(models, config, batch: int) -> Condition:
    """Leaves (R = 3, B, ...): everything, images without most of the text, a short text alone."""
    full = models.condition(config, batch=batch)
    full = full._replace(
        token_valid=np.ones_like(full.token_valid), image_valid=np.ones_like(full.image_valid)
    )
    short = np.zeros_like(full.token_valid)
    short[:, :2] = True
    images_only = full._replace(token_valid=short)
    text_only = images_only._replace(image_valid=np.zeros_like(full.image_valid))
    parts = (full, images_only, text_only)
    return Condition(*(np.stack(leaves) for leaves in zip(*parts, strict=True)))


@pytest.fixture(scope="module")
def scaled(models):
    """A model whose LongRoPE limit is between the lengths of the guidance branches."""
    return dataclasses.replace(
        models.LATENT,
        rope_short_factor=(1.0, 1.2, 1.4, 1.6),
        rope_long_factor=(3.0, 5.0, 8.0, 12.0),
        original_max_position=16,
        max_position=64,
    )


def test_each_branch_equals_a_separate_forward_pass_including_its_rope_factors(models, scaled):
    batch, steps, shift = 2, 3, 2.0
    conditions = branches(models, scaled, batch)
    # Text and both images are longer than the limit, two words are not.
    patches = np.prod(models.GRID)
    assert 2 + 1 + patches <= scaled.original_max_position < 2 + 2 * patches + 1 + patches
    graph, _ = models.graph(scaled)
    parameters = models.parameters(scaled)
    forward = models.jit(lambda parameters, *inputs: nnx.merge(graph, parameters)(*inputs))
    noise = models.targets(scaled, batch=batch)[0][:, 0]
    weights = np.array([2.0, -0.4, -0.6], "f4")

    def by_hand(longest=None):
        """Euler over three separate forward passes per step."""
        x = noise
        u = np.linspace(0, 1, steps + 1)
        times = u / (u + shift - shift * u)
        for begin, end in itertools.pairwise(times):
            t = np.full((batch, 1), begin, "f4")
            velocities = [
                forward(
                    parameters, Condition(*(leaf[i] for leaf in conditions)), x[:, None], t, longest
                )
                for i in range(3)
            ]
            guided = sum(w * v[:, 0] for w, v in zip(weights, velocities, strict=True))
            x = x + np.float32(end - begin) * np.asarray(guided)
        return x

    sampler = make_sampler(graph, SamplingConfig(steps=steps, shift=shift))
    sampled = sampler(parameters, conditions, noise, weights)
    scale = np.abs(sampled).max()
    assert np.abs(sampled - by_hand()).max() < 1e-4 * scale
    # The same factors for all branches would give another result.
    together = np.full(batch, 40, np.int32)
    assert np.abs(sampled - by_hand(together)).max() > 1e-3 * scale


@pytest.mark.parametrize("steps", [4, 50])
def test_a_clean_image_predictor_ends_on_its_prediction(models, steps):
    """With a zero output layer the blend head predicts the mean of the sources and mid-grey."""
    config = models.PIXEL
    graph, _ = models.graph(config)
    parameters = models.parameters(config)
    head = parameters["head"]["output"]["linear"]
    head |= {name: np.zeros_like(value) for name, value in head.items()}
    one = models.condition(config, batch=1)
    conditions = Condition(*(leaf[None] for leaf in one))
    noise = models.targets(config, batch=1)[0][:, 0]

    @models.jit
    def run(parameters):
        model = nnx.merge(graph, parameters)
        weights = np.ones(1, "f4")
        return sample(model, conditions, noise, weights, time_grid(steps), SOLVERS["euler"])

    np.testing.assert_allclose(run(parameters), one.images.sum(1) / 3, atol=1e-4)
