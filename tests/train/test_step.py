"""The training step: skipped updates, gradient accumulation, averages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.flow import flow_matching_loss
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.pipeline import fixed_batch
from ditfuse_jax.train import resolve
from ditfuse_jax.train.compile import compile_step, to_devices
from ditfuse_jax.train.optimizer import learning_rate, make_optimizer
from ditfuse_jax.train.recorder import example_flops
from ditfuse_jax.train.state import Frozen, abstract_state, create_state
from ditfuse_jax.train.step import (
    make_train_step,
    model_inputs,
    update_ema,
    update_grad_norm_ema,
)

pytestmark = pytest.mark.medium


class Trial:
    """A tiny state, its batch, and steps with changed settings."""

    def __init__(self, config):
        self.recipe = resolve(config)
        self.partitioner = Partitioner(make_mesh(self.recipe.mesh))
        self.optimizer = make_optimizer(self.recipe.optimizer, self.recipe.train.steps)
        self.graph, _ = make_graph(self.recipe.network)
        abstract = abstract_state(self.recipe.network, self.optimizer, True, self.partitioner)
        self.state = create_state(self.recipe.network, self.optimizer, True, 0, abstract)
        stream = self.recipe.data
        self.batch = to_devices(fixed_batch(stream, stream.batch_size), self.partitioner)

        self.compiled = {}

    def step(self, state, **changes):
        config = dataclasses.replace(self.recipe.step, **changes)
        if config not in self.compiled:
            step = make_train_step(
                self.graph, self.optimizer, config, self.partitioner, PixelSpace()
            )
            self.compiled[config] = jax.jit(step)
        return self.compiled[config](state, Frozen({}, {}), self.batch)


@pytest.fixture(scope="module")
def trial():
    from ditfuse_jax.train import load_recipe

    arguments = [
        "--config.model.hidden_size=32",
        "--config.model.num_layers=1",
        "--config.model.num_heads=2",
        "--config.model.num_kv_heads=2",
        "--config.model.intermediate_size=64",
        "--config.data.crop=(32, 32)",
        "--config.data.batch_size=8",
        "--config.data.workers=0",
        "--config.optimizer.warmup_steps=1",
    ]
    return Trial(load_recipe("nano_m3", arguments))


def assert_same(one, other):
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other
    )


def kept(state):
    """What a skipped update must not change."""
    return state.parameters, state.optimizer, state.ema


def test_an_accepted_step_changes_parameters_moments_and_average(trial):
    new, metrics = trial.step(trial.state)
    assert int(new.step) == 1
    assert int(new.skipped) == 0
    assert float(new.grad_norm_ema) == pytest.approx(float(metrics["grad_norm"]))
    for old_part, new_part in zip(kept(trial.state), kept(new), strict=True):
        pairs = zip(jax.tree.leaves(old_part), jax.tree.leaves(new_part), strict=True)
        assert any(bool(jnp.any(a != b)) for a, b in pairs)


def test_a_step_with_nan_is_counted_and_changes_nothing_else(trial):
    broken = jax.tree.map(lambda x: x, trial.state.parameters)
    broken["head"]["output"]["linear"]["bias"] = jnp.full_like(
        broken["head"]["output"]["linear"]["bias"], jnp.nan
    )
    state = dataclasses.replace(trial.state, parameters=broken)
    new, metrics = trial.step(state)
    assert np.isnan(float(metrics["loss"]))
    assert (int(new.step), int(new.skipped)) == (1, 1)
    assert_same(kept(new), kept(state))


def test_a_finite_loss_with_a_gradient_that_is_not_finite_is_skipped(trial, monkeypatch):
    """As where the derivative of a square root is infinite at zero."""
    from ditfuse_jax.train import step as module

    @jax.custom_vjp
    def identity(x):
        return x

    identity.defvjp(lambda x: (x, None), lambda _, gradient: (gradient * jnp.inf,))
    loss = module.flow_matching_loss
    monkeypatch.setattr(module, "flow_matching_loss", lambda *args: identity(loss(*args)))
    recipe = dataclasses.replace(trial.recipe.step, spike_factor=0.0)
    step = make_train_step(trial.graph, trial.optimizer, recipe, trial.partitioner, PixelSpace())
    new, metrics = jax.jit(step)(trial.state, Frozen({}, {}), trial.batch)
    assert np.isfinite(float(metrics["loss"]))
    assert not np.isfinite(float(metrics["grad_norm"]))
    assert (int(new.step), int(new.skipped)) == (1, 1)
    assert_same(kept(new), kept(trial.state))
    assert float(new.grad_norm_ema) == float(trial.state.grad_norm_ema)


def test_a_gradient_far_above_the_average_is_skipped(trial):
    _, metrics = trial.step(trial.state)
    assert trial.recipe.step.spike_factor == 10.0
    state, near = (
        dataclasses.replace(trial.state, grad_norm_ema=metrics["grad_norm"] / factor)
        for factor in (11, 9)
    )
    new, _ = trial.step(state)
    assert int(new.skipped) == 1
    assert_same(kept(new), kept(state))
    assert int(trial.step(near)[0].skipped) == 0
    assert int(trial.step(state, spike_factor=0.0)[0].skipped) == 0


def test_gradients_that_have_become_larger_for_good_are_accepted_soon():
    """A hundred times the average norm, where updates are skipped above ten times the average."""
    ema, skipped = jnp.float32(1.0), 0
    while ema <= 100 / 10:
        ema, skipped = update_grad_norm_ema(ema, jnp.float32(100.0), 10.0), skipped + 1
    assert 5 < skipped < 20
    for _ in range(200):
        ema = update_grad_norm_ema(ema, jnp.float32(100.0), 10.0)
    assert float(ema) == pytest.approx(100, rel=0.05)


def test_a_single_spike_and_a_non_finite_norm_hardly_change_the_average():
    assert float(update_grad_norm_ema(jnp.float32(1.0), jnp.float32(1e9), 10.0)) < 1.2
    assert float(update_grad_norm_ema(jnp.float32(1.0), jnp.float32(np.inf), 10.0)) < 1.2
    assert float(update_grad_norm_ema(jnp.float32(1.0), jnp.float32(np.nan), 10.0)) == 1.0
    assert float(update_grad_norm_ema(jnp.float32(0.0), jnp.float32(np.nan), 10.0)) == 0.0


def test_accumulation_gives_the_gradient_of_the_whole_batch(trial):
    whole, metrics = trial.step(trial.state)
    dealt, dealt_metrics = trial.step(trial.state, accumulation=4)
    assert float(dealt_metrics["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert float(dealt_metrics["grad_norm"]) == pytest.approx(float(metrics["grad_norm"]), rel=1e-4)
    moments = whole.optimizer, dealt.optimizer
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), *moments)


@pytest.mark.slow
def test_randomness_depends_on_seed_and_step_only(trial):
    first, again = trial.step(trial.state)[1], trial.step(trial.state)[1]
    assert float(first["loss"]) == float(again["loss"])
    later = dataclasses.replace(trial.state, step=jnp.asarray(7, jnp.int32))
    assert float(trial.step(later)[1]["loss"]) != float(first["loss"])
    assert float(trial.step(trial.state, seed=1)[1]["loss"]) != float(first["loss"])


def test_several_draws_average_their_losses(trial):
    one, many = trial.step(trial.state)[1], trial.step(trial.state, draws=3)[1]
    assert np.isfinite(float(many["loss"]))
    assert float(many["loss"]) != float(one["loss"])


@pytest.mark.slow
def test_k_draws_are_the_mean_of_k_plain_losses_and_gradients(trial):
    """Sharing the condition pass does not change the result."""
    draws, space = 3, PixelSpace()
    size, height, width, _ = trial.batch["target"].shape
    noise = jax.random.normal(jax.random.key(5), (size, draws, *space.shape(height, width)))
    times = jax.random.uniform(jax.random.key(6), (size, draws))
    # A fresh output layer is zero and would hide what the draws see of each other.
    parameters = jax.tree.map(
        lambda x: x + 0.05 * jax.random.normal(jax.random.key(x.size), x.shape),
        trial.state.parameters,
    )
    condition, image = model_inputs(trial.batch, space, {}, noise[:, :1])

    def loss(parameters, noise, times):
        model = nnx.merge(trial.graph, parameters)
        predict = functools.partial(model, condition)
        return jnp.mean(flow_matching_loss(predict, model.config.prediction, image, noise, times))

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    together = value_and_grad(parameters, noise, times)
    each = [
        value_and_grad(parameters, noise[:, k : k + 1], times[:, k : k + 1]) for k in range(draws)
    ]
    mean = jax.tree.map(lambda *values: sum(values) / draws, *each)
    assert len({float(value) for value, _ in each}) == draws
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * np.abs(b).max()),
        together,
        mean,
    )


def test_the_new_state_reuses_the_memory_of_the_old_one(trial):
    """Every buffer of the state is donated, so that the step never holds it twice."""
    frozen = Frozen({}, {})
    step = make_train_step(
        trial.graph, trial.optimizer, trial.recipe.step, trial.partitioner, PixelSpace()
    )
    abstract = abstract_state(trial.recipe.network, trial.optimizer, True, trial.partitioner)
    compiled = compile_step(step, trial.partitioner, abstract, frozen, trial.batch)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))
    assert compiled.memory_analysis().alias_size_in_bytes == held
    state = jax.tree.map(jnp.copy, trial.state)
    compiled(state, frozen, trial.batch)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))


def test_the_average_follows_early_and_remembers_late():
    old, new = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    early = update_ema(old, new, 0.999, jnp.asarray(0))["w"]
    late = update_ema(old, new, 0.999, jnp.asarray(10**6))["w"]
    np.testing.assert_allclose(early, 0.9, rtol=1e-6)
    np.testing.assert_allclose(late, 0.001, rtol=1e-3)


def test_the_learning_rate_warms_up_peaks_and_decays_to_a_tenth(trial):
    config = dataclasses.replace(
        trial.recipe.optimizer, learning_rate=1.0, schedule="cosine", warmup_steps=10
    )
    rates = np.array([learning_rate(config, 100)(step) for step in range(101)])
    np.testing.assert_allclose(rates[[0, 9, 10, 100]], [0.1, 1.0, 1.0, 0.1], rtol=1e-5)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) <= 0).all()


def test_example_flops_grow_with_the_draws(trial):
    one, two = (
        example_flops(
            dataclasses.replace(
                trial.recipe, step=dataclasses.replace(trial.recipe.step, draws=draws)
            ),
            trial.batch,
        )
        for draws in (1, 2)
    )
    assert one < two < 2 * one


def test_a_loss_that_is_not_finite_with_a_finite_gradient_is_skipped(trial, monkeypatch):
    from ditfuse_jax.train import step as module

    loss = module.flow_matching_loss
    monkeypatch.setattr(module, "flow_matching_loss", lambda *args: loss(*args) + jnp.inf)
    recipe = dataclasses.replace(trial.recipe.step, spike_factor=0.0)
    step = make_train_step(trial.graph, trial.optimizer, recipe, trial.partitioner, PixelSpace())
    new, metrics = jax.jit(step)(trial.state, Frozen({}, {}), trial.batch)
    assert not np.isfinite(float(metrics["loss"]))
    assert np.isfinite(float(metrics["grad_norm"]))
    assert (int(new.step), int(new.skipped)) == (1, 1)
    assert_same(kept(new), kept(trial.state))


class NoisySpace(PixelSpace):
    """Adds the posterior's noise, as an autoencoder does."""

    def encode(self, parameters, images, noise):
        assert noise.shape == images.shape
        return images + noise


def test_each_image_and_the_target_get_their_own_posterior_noise(trial):
    shape = trial.batch["images"].shape
    noise = jax.random.normal(jax.random.key(0), (shape[0], shape[1] + 1, *shape[2:]))
    condition, target = model_inputs(trial.batch, NoisySpace(), {}, noise)
    images, clean = (trial.batch[name] / 127.5 - 1.0 for name in ("images", "target"))
    np.testing.assert_allclose(condition.images, images + noise[:, :-1], atol=1e-6)
    np.testing.assert_allclose(target, clean + noise[:, -1], atol=1e-6)


def test_a_step_draws_posterior_noise_for_the_images_and_the_target(trial):
    step = make_train_step(
        trial.graph, trial.optimizer, trial.recipe.step, trial.partitioner, NoisySpace()
    )
    _, metrics = jax.eval_shape(step, trial.state, Frozen({}, {}), trial.batch)
    assert metrics["loss"].shape == ()
