"""The training step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ditfuse_jax.checks import check_at_least
from ditfuse_jax.flow import LossConfig, flow_matching_loss
from ditfuse_jax.flow.distillation import Draws
from ditfuse_jax.flow.loss import velocity_loss
from ditfuse_jax.flow.times import TimeSampler
from ditfuse_jax.model import Condition
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.model.lora import combine_trees
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.train.state import Frozen, TrainState
from ditfuse_jax.train.teacher import Teacher

Metrics = dict[str, jax.Array]
Batch = Mapping[str, jax.Array]
TrainStep = Callable[[TrainState, Frozen, Batch], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Settings of the training step.

    Attributes:
      seed: all random numbers of a step are drawn from `fold_in(seed, step)`.
      time_sampler: draws t.
      loss: weighting of the loss.
      draws: noise draws per example that share one condition pass (K).
      accumulation: see `TrainConfig`.
      ema_decay: see `TrainConfig`.
      spike_factor: see `TrainConfig`.
      teacher: whose samples the model learns to reach in few steps; None trains on the data.
    """

    seed: int
    time_sampler: TimeSampler
    loss: LossConfig
    draws: int
    accumulation: int
    ema_decay: float
    spike_factor: float
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        check_at_least("flow.draws", self.draws, 1)


def make_train_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: StepConfig,
    partitioner: Partitioner,
    space: Space,
) -> TrainStep:
    """Returns the pure step function, to be jitted with the state donated."""

    def loss_fn(parameters, frozen, batch, posterior_noise, noise, t):
        model = nnx.merge(graph, combine_trees(frozen.base, parameters))
        condition, image = model_inputs(batch, space, frozen.autoencoder, posterior_noise)

        def predict(noisy: jax.Array, t: jax.Array) -> jax.Array:
            return model(condition, noisy, t)

        prediction = model.config.prediction
        if config.teacher is None:
            losses = flow_matching_loss(predict, prediction, image, noise, t, config.loss)
        else:
            fixed = nnx.merge(graph, combine_trees(frozen.base, jax.lax.stop_gradient(parameters)))
            points = config.teacher.points(
                fixed, frozen.teacher or frozen.base, condition, Draws(image, noise, t)
            )
            t_eps = config.teacher.t_eps
            losses = velocity_loss(predict, prediction, *points, config.loss, t_eps)
        return jnp.mean(losses)

    def train_step(state: TrainState, frozen: Frozen, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key_time, key_noise = jax.random.split(key)
        size, height, width, _ = batch["target"].shape
        shape = space.shape(height, width)
        t = config.time_sampler(key_time, (size, config.draws))
        noise = jax.random.normal(key_noise, (size, config.draws, *shape))
        num_images = batch["images"].shape[1] + 1
        posterior_noise = jax.random.normal(
            jax.random.fold_in(key_noise, 1), (size, num_images, *shape)
        )

        def value_and_grad(parameters, *batched):
            return jax.value_and_grad(loss_fn)(parameters, frozen, *batched)

        loss, gradients = accumulate_gradients(
            value_and_grad, config.accumulation, state.parameters, batch, posterior_noise, noise, t
        )
        grad_norm = optax.global_norm(gradients)
        accept = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        if config.spike_factor:
            norm_ema = state.grad_norm_ema
            accept &= (norm_ema == 0) | (grad_norm < config.spike_factor * norm_ema)

        updates, moments = optimizer.update(gradients, state.optimizer, state.parameters)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        ema = state.ema and update_ema(state.ema, parameters, config.ema_decay, state.step)
        new = TrainState(
            step=state.step,
            parameters=parameters,
            optimizer=moments,
            ema=ema,
            skipped=state.skipped,
            grad_norm_ema=state.grad_norm_ema,
        )
        # A skipped update changes only the counters and the average of the gradient norm.
        new = jax.tree.map(lambda new, old: jnp.where(accept, new, old), new, state)
        skipped = state.skipped + jnp.where(accept, 0, 1)
        new = dataclasses.replace(
            new,
            step=state.step + 1,
            skipped=skipped,
            grad_norm_ema=update_grad_norm_ema(state.grad_norm_ema, grad_norm, config.spike_factor),
        )
        metrics = {
            "loss": loss,
            "grad_norm": grad_norm,
            "param_norm": optax.global_norm(new.parameters),
            "update_norm": jnp.where(accept, optax.global_norm(updates), 0.0),
            "skipped": skipped,
        }
        return new, metrics

    def constrained(state: TrainState, frozen: Frozen, batch: Batch) -> tuple[TrainState, Metrics]:
        with logical_axis_rules(partitioner.activation):
            return train_step(state, frozen, batch)

    return constrained


def model_inputs(
    batch: Batch, space: Space, autoencoder: Parameters, noise: jax.Array
) -> tuple[Condition, jax.Array]:
    """Converts a batch to the inputs of the transformer.

    Args:
      batch: see `pipeline.ExampleEncoder`, with a leading batch dimension.
      space: pixels or latents.
      autoencoder: its parameters.
      noise: (B, n + 1, h, w, C) standard normal, for the posterior of the images and the target.

    Returns:
      The condition and the clean target (B, h, w, C).
    """

    def enter(pixels: jax.Array, noise: jax.Array) -> jax.Array:
        return space.encode(autoencoder, pixels.astype(jnp.float32) / 127.5 - 1.0, noise)

    if "target_moments" in batch:  # encoded when the data were packed
        images = enter(batch["images"], noise[:, :-1])
        target = space.sample(batch["target_moments"], noise[:, -1])
    else:
        seen = enter(jnp.concatenate([batch["images"], batch["target"][:, None]], axis=1), noise)
        images, target = seen[:, :-1], seen[:, -1]
    return Condition(batch["tokens"], batch["token_valid"], images, batch["image_valid"]), target


def accumulate_gradients(
    value_and_grad: Callable[..., tuple[jax.Array, Any]], parts: int, parameters: Any, *batched: Any
) -> tuple[jax.Array, Any]:
    """Returns the mean loss and gradient over `parts` micro-batches, computed one at a time.

    Row i belongs to micro-batch i mod `parts`, so that every device keeps its own rows.
    """
    if parts == 1:
        return value_and_grad(parameters, *batched)

    def split_rows(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)

    def add(total, micro_batch):
        return jax.tree.map(jnp.add, total, value_and_grad(parameters, *micro_batch)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters))
    total, _ = jax.lax.scan(add, zero, jax.tree.map(split_rows, batched))
    return jax.tree.map(lambda x: x / parts, total)


def update_grad_norm_ema(ema: jax.Array, norm: jax.Array, spike_factor: float) -> jax.Array:
    """Returns the moving average of gradient norms, 0 before the first; see `TrainConfig`.

    A spike counts as a norm at the limit: a single one changes the average little, but if gradients
    have become larger for good, they are accepted after about a dozen skipped updates.  Non-finite
    norms are ignored.
    """
    if spike_factor:
        norm = jnp.where(ema == 0, norm, jnp.minimum(norm, spike_factor * ema))
    updated = jnp.where(ema == 0, norm, 0.98 * ema + 0.02 * norm)
    return jnp.where(jnp.isfinite(norm), updated, ema)


def update_ema(ema: Any, parameters: Any, decay: float, step: jax.Array) -> Any:
    """Returns the moving average of the parameters; early in a run the decay is smaller."""
    weight = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: weight * old + (1 - weight) * new, ema, parameters)
