"""AdamW with warm-up, decay and clipping, as optax composes it."""

import dataclasses

import optax

from ditfuse_jax.errors import UserError

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Attributes:
    learning_rate: peak.
    schedule: after warm-up, `constant` or `cosine` down to a tenth.
    warmup_steps: linear from zero.
    weight_decay: decoupled.
    b1: decay of the first moment.
    b2: decay of the second moment.
    clip: global norm to which gradients are clipped.
    """

    learning_rate: float
    schedule: str
    warmup_steps: int
    weight_decay: float
    b1: float
    b2: float
    clip: float


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Raises:
      UserError: unknown schedule.
    """
    peak = config.learning_rate
    warmup = optax.linear_schedule(0.0, peak, max(config.warmup_steps, 1))
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(steps - config.warmup_steps, 1), alpha=0.1)
    else:
        raise UserError(
            f"optimizer.schedule {config.schedule!r} is unknown; choose from {', '.join(SCHEDULES)}"
        )
    # +1: the first update has a non-zero rate.
    return optax.join_schedules([lambda step: warmup(step + 1), after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The update rule; gradients come in unclipped."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
        ),
    )
