"""AdamW, Adafactor or Muon with warm-up, decay and clipping, as optax composes them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from optax.contrib import MuonDimensionNumbers

from ditfuse_jax.errors import UserError

SCHEDULES = ("constant", "cosine")
KINDS = ("adamw", "adafactor", "muon")
MOMENT_DTYPES = ("float32", "bfloat16")

# Heads have a dimension of their own, so matrices are factored along smaller sides than the paper's
# 128; norms and biases stay whole.
_LEAST_FACTORED = 32

# Inputs and outputs of the stacked matrices; along the other axes (layers, heads' queries, keys and
# values, gate and up) each matrix is one of its own.
_MATRICES = {
    "qkv_proj": MuonDimensionNumbers((1,), (2, 4)),
    "o_proj": MuonDimensionNumbers((1, 2), (3,)),
    "gate_up_proj": MuonDimensionNumbers((1,), (3,)),
    "down_proj": MuonDimensionNumbers((1,), (2,)),
}
_LIKE_ADAMW = 0.2  # root mean square of an update, as AdamW's is


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
    kind: `adamw` (arXiv 1711.05101); `adafactor`, whose second moment is rows and columns only
      (arXiv 1804.04235), here with a first moment, and with the learning rate and b2 of AdamW; or
      `muon`, which makes the updates of the transformer's matrices orthogonal (arXiv 2502.16982),
      scaled so that AdamW's learning rate serves, and leaves the rest to AdamW,
      both with Nesterov's momentum.
    moment_dtype: of the first moment; `bfloat16` halves it.
    """

    learning_rate: float
    schedule: str
    warmup_steps: int
    weight_decay: float
    b1: float
    b2: float
    clip: float
    kind: str = "adamw"
    moment_dtype: str = "float32"


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
    """The update rule; gradients come in unclipped.

    Raises:
      UserError: unknown kind or type of moments.
    """
    for name, value, known in (
        ("kind", config.kind, KINDS),
        ("moment_dtype", config.moment_dtype, MOMENT_DTYPES),
    ):
        if value not in known:
            raise UserError(
                f"optimizer.{name} {value!r} is unknown; choose from {', '.join(known)}"
            )
    rate, decay = learning_rate(config, steps), config.weight_decay
    if config.kind == "adamw":
        update = optax.adamw(
            rate, b1=config.b1, b2=config.b2, weight_decay=decay, mu_dtype=config.moment_dtype
        )
    elif config.kind == "muon":
        update = optax.contrib.muon(
            rate,
            weight_decay=decay,
            adam_b1=config.b1,
            adam_b2=config.b2,
            adam_weight_decay=decay,
            mu_dtype=config.moment_dtype,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=_LIKE_ADAMW,
        )
    else:
        update = optax.chain(
            optax.scale_by_factored_rms(
                min_dim_size_to_factor=_LEAST_FACTORED,
                decay_rate=config.b2,
                decay_rate_fn=_bias_corrected_decay,
            ),
            optax.clip_by_block_rms(1.0),
            optax.ema(config.b1, debias=True, accumulator_dtype=config.moment_dtype),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(rate),
        )
    return optax.chain(optax.clip_by_global_norm(config.clip), update)


def _matrices(parameters: Any) -> Any:
    """Which leaves are Muon's, and along which axes they are matrices; None for the others."""

    def of(path: tuple, _: Any) -> MuonDimensionNumbers | None:
        names = [key.key for key in path]
        if names[0] != "transformer" or names[-1] != "kernel":
            return None
        return _MATRICES[names[-2]]

    return jax.tree_util.tree_map_with_path(of, parameters)


def _bias_corrected_decay(step: jax.typing.ArrayLike, decay: jax.typing.ArrayLike) -> jax.Array:
    """The decay at which a running mean from zero equals Adam's corrected one (section 7.2)."""
    step, decay = jnp.asarray(step, jnp.float32) + 1.0, jnp.asarray(decay)
    return decay * (1.0 - decay ** (step - 1.0)) / (1.0 - decay**step)
