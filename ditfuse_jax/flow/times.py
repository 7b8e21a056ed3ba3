"""Times: how training draws them and which ones sampling visits."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.checks import check_above_zero, check_finite, check_fraction
from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry

# Draws times in [0, 1] of the given shape; 0 is pure noise, 1 the image.
TimeSampler = Callable[[jax.Array, tuple[int, ...]], jax.Array]


@dataclasses.dataclass(frozen=True)
class LogitNormal:
    """sigmoid(N(mean, std)) (Esser et al. 2024); some of the times may be 0 instead.

    A negative mean draws more times near noise, where a clean-image predictor decides what the
    image will be (Li and He 2025 use mean -0.8 and std 0.8).  Times of exactly 0 matter for
    instructions: the first step of sampling starts at t = 0 and settles what the prompt asks for,
    but slightly later x_t already reveals it (the mean of 256 noisy pixels gives away brightness
    and colour), so a model that hardly ever sees t = 0 has no reason to read the prompt.

    Attributes:
      mean: of the normal distribution.
      std: its standard deviation.
      share_at_noise: fraction of the times that are 0.
    """

    mean: float = 0.0
    std: float = 1.0
    share_at_noise: float = 0.0

    def __post_init__(self) -> None:
        check_finite("flow.time_sampler.mean", self.mean)
        check_finite("flow.time_sampler.std", self.std)
        check_above_zero("flow.time_sampler.std", self.std)
        check_fraction("flow.time_sampler.share_at_noise", self.share_at_noise)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if not self.share_at_noise:
            return self._draw(key, shape)
        key_zero, key_rest = jax.random.split(key)
        at_noise = jax.random.bernoulli(key_zero, self.share_at_noise, shape)
        return jnp.where(at_noise, 0.0, self._draw(key_rest, shape))

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.nn.sigmoid(jax.random.normal(key, shape) * self.std + self.mean)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform in [0, 1)."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape)


_near_noise = partial(LogitNormal, mean=-0.8, std=0.8)

# Name -> factory, which takes the other entries of `flow.time_sampler` as keyword arguments.
TIME_SAMPLERS: Registry[Callable[..., TimeSampler]] = Registry(
    "time sampler",
    {
        "logit_normal": LogitNormal,
        "uniform": Uniform,
        # Names of earlier recipes for settings of `LogitNormal`.
        "noisy_logit_normal": _near_noise,
        "half_at_noise": partial(_near_noise, share_at_noise=0.5),
        "mostly_at_noise": partial(_near_noise, share_at_noise=0.8),
    },
)


def make_time_sampler(spec: str | Mapping[str, Any]) -> TimeSampler:
    """Builds the time sampler that a recipe describes.

    Args:
      spec: a name of `TIME_SAMPLERS`, or a mapping of `name` and the sampler's settings, such as
        `{"name": "logit_normal", "mean": -0.8, "std": 0.8}`.

    Raises:
      UserError: unknown name or setting, or a bad value.
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"flow.time_sampler needs a name: choose from {', '.join(TIME_SAMPLERS)}")
    try:
        return TIME_SAMPLERS.find(name)(**options)
    except TypeError as error:
        raise UserError(
            f"flow.time_sampler: {error}; replace all settings at once, e.g. "
            f"--config.flow.time_sampler={name}"
        ) from error


def time_grid(steps: int, shift: float = 1.0) -> np.ndarray:
    """Returns the `steps + 1` times from 0 to 1 that a solver visits, float32.

    Uniform times u are shifted to u / (u + s - s * u); s > 1 spends more steps near noise.
    """
    u = np.arange(steps + 1, dtype=np.float32) / np.float32(steps)
    return u / (u + np.float32(shift) * (1 - u))  # 0 and 1 exactly, for every shift


# What the time shift is multiplied by for images of so many target tokens.
SHIFT_RULES: Registry[Callable[[int], float]] = Registry("shift rule")


@SHIFT_RULES.register("constant")
def constant_shift(tokens: int) -> float:
    """The same for all images."""
    del tokens
    return 1.0


@SHIFT_RULES.register("sd3")
def sd3_shift(tokens: int) -> float:
    """sqrt(tokens / 256): 2 for 1,024 tokens, 4 for 4,096.

    Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, eq. 23), whose first training had 256
    tokens: the more values an image has, the more noise it takes to hide it as much.
    """
    return math.sqrt(tokens / 256)


@SHIFT_RULES.register("flux")
def flux_shift(tokens: int) -> float:
    """exp(m) with m on the line through 0.5 at 256 tokens and 1.15 at 4,096.

    FLUX.1 (Black Forest Labs, `flux/sampling.py`, `get_schedule`).
    """
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """The times that a solver visits, for images of any number of tokens.

    Attributes:
      steps: how many steps.
      shift: see `time_grid`.
      rule: a name of `SHIFT_RULES`, by which the shift depends on the number of tokens.
    """

    steps: int
    shift: float = 1.0
    rule: str = "constant"

    def __call__(self, tokens: int) -> np.ndarray:
        """Returns the `steps + 1` times for that many target tokens of one forward pass."""
        return time_grid(self.steps, self.shift * SHIFT_RULES.find(self.rule)(tokens))
