"""AdamW, Adafactor and Muon with warm-up, decay and gradient clipping, composed with optax."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from optax.contrib import MuonDimensionNumbers

from ditfuse_jax.checks import check_above_zero, check_at_least, check_choice, check_decay
from ditfuse_jax.registry import Registry

MOMENT_DTYPES = ("float32", "bfloat16")

# Heads are a separate axis here, so the sides of the matrices are shorter than in the paper, which
# factors from 128 on; norms and biases are not factored.
_MIN_FACTORED_SIDE = 32

# Input and output axes of the stacked matrices.  The other axes (layers, heads, queries, keys and
# values, gate and up) enumerate matrices.
_MATRIX_AXES = {
    "qkv_proj": MuonDimensionNumbers((1,), (2, 4)),
    "o_proj": MuonDimensionNumbers((1, 2), (3,)),
    "gate_up_proj": MuonDimensionNumbers((1,), (3,)),
    "down_proj": MuonDimensionNumbers((1,), (2,)),
}
_ADAMW_RMS = 0.2  # root mean square of an AdamW update


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """`config.optimizer` of a recipe.

    Attributes:
      kind: name in `OPTIMIZERS`: `adamw` (arXiv 1711.05101); `adafactor`, whose second moment is
        factored into rows and columns (arXiv 1804.04235), here with a first moment and with the
        learning rate and b2 of AdamW; or `muon`, which orthogonalises the updates of the
        transformer's matrices (arXiv 2502.16982), scaled so that AdamW's learning rate can be
        used, and applies AdamW to all other parameters, both with Nesterov momentum.
      moment_dtype: of the first moment; `bfloat16` halves its memory.
      learning_rate: peak.
      schedule: name in `SCHEDULES`, for the learning rate after warm-up.
      warmup_steps: of the linear warm-up from zero.
      weight_decay: decoupled.
      b1: decay of the first moment, from 0 to below 1.
      b2: decay of the second moment, from 0 to below 1.
      clip: global norm to which gradients are clipped.
    """

    kind: str = "adamw"
    moment_dtype: str = "float32"
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    warmup_steps: int = 1000
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.99
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_choice("optimizer.kind", self.kind, OPTIMIZERS)
        check_choice("optimizer.moment_dtype", self.moment_dtype, MOMENT_DTYPES)
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        check_above_zero("optimizer.learning_rate", self.learning_rate)
        check_above_zero("optimizer.clip", self.clip)
        check_at_least("optimizer.warmup_steps", self.warmup_steps, 0)
        check_at_least("optimizer.weight_decay", self.weight_decay, 0)
        for name in ("b1", "b2"):
            check_decay(f"optimizer.{name}", getattr(self, name))


# Name -> the learning rate as a function of the steps after warm-up, made from the settings and the
# number of these steps.
SCHEDULES: Registry[Callable[[OptimizerConfig, int], optax.Schedule]] = Registry("schedule")

# Name -> update rule without gradient clipping, made from the settings and the learning rate.
OPTIMIZERS: Registry[Callable[[OptimizerConfig, optax.Schedule], optax.GradientTransformation]] = (
    Registry("optimizer")
)


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step; `steps` is the number of all updates."""
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(config.warmup_steps, 1))
    after = SCHEDULES.find(config.schedule)(config, max(steps - config.warmup_steps, 1))
    # +1: the first update has a non-zero rate.
    return optax.join_schedules([lambda step: warmup(step + 1), after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Returns the update rule, gradient clipping included; `steps` is the number of all updates."""
    update = OPTIMIZERS.find(config.kind)(config, learning_rate(config, steps))
    return optax.chain(optax.clip_by_global_norm(config.clip), update)


@SCHEDULES.register("constant")
def _constant(config: OptimizerConfig, steps: int) -> optax.Schedule:
    del steps
    return optax.constant_schedule(config.learning_rate)


@SCHEDULES.register("cosine")
def _cosine(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Decays to a tenth of the peak."""
    return optax.cosine_decay_schedule(config.learning_rate, steps, alpha=0.1)


@OPTIMIZERS.register("adamw")
def _adamw(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(
        rate,
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mu_dtype=config.moment_dtype,
    )


@OPTIMIZERS.register("adafactor")
def _adafactor(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=_MIN_FACTORED_SIDE,
            decay_rate=config.b2,
            decay_rate_fn=_bias_corrected_decay,
        ),
        optax.clip_by_block_rms(1.0),
        optax.ema(config.b1, debias=True, accumulator_dtype=config.moment_dtype),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(rate),
    )


@OPTIMIZERS.register("muon")
def _muon(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.contrib.muon(
        rate,
        weight_decay=config.weight_decay,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_weight_decay=config.weight_decay,
        mu_dtype=config.moment_dtype,
        muon_weight_dimension_numbers=_matrix_axes,
        consistent_rms=_ADAMW_RMS,
    )


def _matrix_axes(parameters: Any) -> Any:
    """Returns the matrix axes of the leaves that Muon updates, and None for the others."""

    def axes(path: tuple, _: Any) -> MuonDimensionNumbers | None:
        names = [key.key for key in path]
        if names[0] != "transformer" or names[-1] != "kernel":
            return None
        return _MATRIX_AXES[names[-2]]

    return jax.tree_util.tree_map_with_path(axes, parameters)


def _bias_corrected_decay(step: jax.typing.ArrayLike, decay: jax.typing.ArrayLike) -> jax.Array:
    """Returns the decay at which a running mean from zero equals Adam's bias-corrected one.

    See section 7.2 of the Adafactor paper.
    """
    step, decay = jnp.asarray(step, jnp.float32) + 1.0, jnp.asarray(decay)
    return decay * (1.0 - decay ** (step - 1.0)) / (1.0 - decay**step)
