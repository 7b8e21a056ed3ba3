"""The whole model: padding, batches, draws and cached keys and values, on latents and pixels."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model import Condition

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]

# Differences by the order of float32 sums.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(scope="module", params=["LATENT", "PIXEL"])
def case(request, models):
    return Case(models, getattr(models, request.param))


class Case:
    """A compiled model with a condition, noisy targets and its output for them."""

    def __init__(self, models, config):
        self.models, self.config = models, config
        self.parameters = models.parameters(config)
        self.condition = models.condition(config)
        self.noisy, self.t = models.targets(config)
        self.run = self.compile(config)
        self.output = self.run(self.condition, self.noisy, self.t)

    def compile(self, config):
        """Returns a jitted forward pass with this case's parameters."""
        graph, _ = self.models.graph(config)
        forward = self.models.jit(lambda parameters, *inputs: nnx.merge(graph, parameters)(*inputs))
        return lambda *inputs: np.asarray(forward(self.parameters, *inputs))

    def changed(self, **leaves):
        """Returns the output for a condition with some fields replaced."""
        return self.run(self.condition._replace(**leaves), self.noisy, self.t)


def repack(condition: Condition, old: tuple[int, ...], new: tuple[int, ...]) -> Condition:
    """Returns the same prompts in other text slots: tokens, then padding of another id."""
    cuts = np.cumsum(old)[:-1]
    tokens, valid = [], []
    for ids, real, capacity in zip(
        np.split(condition.tokens, cuts, axis=1),
        np.split(condition.token_valid, cuts, axis=1),
        new,
        strict=True,
    ):
        padding = [(0, 0), (0, capacity - ids.shape[1])]
        tokens.append(np.pad(ids, padding, constant_values=7))
        valid.append(np.pad(real, padding))
    return condition._replace(
        tokens=np.concatenate(tokens, axis=1), token_valid=np.concatenate(valid, axis=1)
    )


def test_padded_token_ids_change_nothing(case):
    tokens, valid = case.condition.tokens, case.condition.token_valid
    other = (tokens + 1) % case.config.vocab_size
    assert not valid.all()
    np.testing.assert_array_equal(case.changed(tokens=np.where(valid, tokens, other)), case.output)


def test_every_real_token_changes_the_output_of_its_own_row_only(case):
    tokens, valid = case.condition.tokens, case.condition.token_valid
    other = (tokens + 1) % case.config.vocab_size
    for column in np.flatnonzero(valid[1]):
        changed = tokens.copy()
        changed[1, column] = other[1, column]
        moved = np.abs(case.changed(tokens=changed) - case.output).max(axis=(1, 2, 3, 4))
        assert moved[1] > 1e-4
        assert moved[0] == moved[2] == 0


def test_the_values_of_absent_images_change_nothing(case):
    images, valid = case.condition.images, case.condition.image_valid
    assert not valid.all()
    garbage = np.where(valid[:, :, None, None, None], images, np.float32(100.0))
    np.testing.assert_array_equal(case.changed(images=garbage), case.output)


def test_the_values_of_present_images_change_the_output(case):
    images, valid = case.condition.images, case.condition.image_valid
    for row, column in np.argwhere(valid):
        changed = images.copy()
        changed[row, column, 0, 0] += 0.5
        assert np.abs(case.changed(images=changed) - case.output)[row].max() > 1e-4


def test_wider_text_slots_give_the_same_numbers(case):
    wide = dataclasses.replace(case.config, text_slots=(8, 7, 9))
    condition = repack(case.condition, case.config.text_slots, wide.text_slots)
    output = case.compile(wide)(condition, case.noisy, case.t)
    np.testing.assert_allclose(output, case.output, **CLOSE)


def test_an_absent_image_has_the_same_effect_as_no_slot(case):
    first, middle, last = case.config.text_slots
    joined = dataclasses.replace(case.config, text_slots=(first, 1, middle + last))
    condition = case.condition
    assert not condition.image_valid[1:, 1].any()
    alone = condition._replace(
        images=condition.images[:, :1], image_valid=condition.image_valid[:, :1]
    )
    output = case.compile(joined)(alone, case.noisy, case.t)
    np.testing.assert_allclose(output[1:], case.output[1:], **CLOSE)
    assert not np.allclose(output[0], case.output[0], atol=1e-3)  # there the image is present


def test_an_example_does_not_depend_on_the_rest_of_the_batch(case):
    for row in range(3):
        one = slice(row, row + 1)
        alone = case.run(
            jax.tree.map(lambda x, o=one: x[o], case.condition), case.noisy[one], case.t[one]
        )
        np.testing.assert_allclose(alone, case.output[one], **CLOSE)


def test_draws_that_share_a_condition_equal_single_draws(case):
    noisy, t = case.models.targets(case.config, draws=3, seed=5)
    together = case.run(case.condition, noisy, t)
    for draw in range(3):
        one = slice(draw, draw + 1)
        alone = case.run(case.condition, noisy[:, one], t[:, one])
        np.testing.assert_allclose(together[:, one], alone, **CLOSE)


def test_permuted_draws_permute_the_outputs(case):
    noisy, t = case.models.targets(case.config, draws=3, seed=5)
    together = case.run(case.condition, noisy, t)
    order = np.array([2, 0, 1])
    permuted = case.run(case.condition, noisy[:, order], t[:, order])
    np.testing.assert_allclose(permuted, together[:, order], **CLOSE)
    assert not np.allclose(together[:, 0], together[:, 1], atol=1e-3)


@pytest.mark.parametrize("unroll", [False, True])
def test_encode_and_denoise_equal_the_full_forward_pass(case, unroll):
    graph, _ = case.models.graph(dataclasses.replace(case.config, unroll=unroll))

    @case.models.jit
    def cached(parameters, condition, noisy, t):
        model = nnx.merge(graph, parameters)
        return model.denoise(model.encode(condition), condition, noisy, t)

    output = cached(case.parameters, case.condition, case.noisy[:, 0], case.t[:, 0])
    np.testing.assert_allclose(output, case.output[:, 0], **CLOSE)


@pytest.mark.parametrize("num_images", [1, 3])
def test_models_take_one_or_three_images_and_every_one_has_an_effect(models, num_images):
    config = models.PIXEL
    graph, _ = models.graph(config)
    forward = models.jit(lambda parameters, *inputs: nnx.merge(graph, parameters)(*inputs))
    parameters = models.parameters(config)
    condition = models.condition(config, batch=1, num_images=num_images)
    condition = condition._replace(image_valid=np.ones((1, num_images), bool))
    noisy, t = models.targets(config, batch=1)
    output = forward(parameters, condition, noisy, t)
    assert output.shape == noisy.shape
    for index in range(num_images):
        images = condition.images.copy()
        images[:, index] *= -1
        changed = forward(parameters, condition._replace(images=images), noisy, t)
        assert np.abs(changed - output).max() > 1e-3


@pytest.mark.parametrize("patch_size, stem", [(4, True), (8, True), (8, False)])
def test_what_sources_add_to_targets_is_the_same_row_of_patches_by_row(models, patch_size, stem):
    config = dataclasses.replace(models.PIXEL, patch_size=patch_size, conv_stem=stem)
    model = models.build(config)
    condition = jax.tree.map(lambda leaf: leaf[:1], models.condition(config, grid=(3, 2)))
    assert np.all(condition.image_valid)
    condition = jax.tree.map(jax.numpy.asarray, condition)
    expected, found = model.target_bias(condition), model.target_bias_by_rows(condition)
    assert found.shape == (1, 6, config.hidden_size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
