"""Times: how training draws them and which ones sampling visits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError

TimeSampler = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def logit_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """sigmoid(N(0, 1)): most draws near the middle (Esser et al. 2024)."""
    return jax.nn.sigmoid(jax.random.normal(key, shape))


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform in [0, 1)."""
    return jax.random.uniform(key, shape)


def noisy_logit_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """sigmoid(N(-0.8, 0.8)): most draws near noise, where a clean-image predictor decides what the
    image will be (Li and He 2025)."""
    return jax.nn.sigmoid(jax.random.normal(key, shape) * 0.8 - 0.8)


def half_at_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Half of the draws at noise itself, the others as `noisy_logit_normal`.

    The first step of sampling stands at t = 0 and settles what the words ask for.  A little later
    x_t gives it away: the mean of 256 noisy pixels tells brightness and colour, and a model that
    meets t = 0 hardly ever has no need to read the prompt.
    """
    return _at_noise(key, shape, 0.5)


def mostly_at_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Four of five draws at noise itself, for models that are sampled in one or two steps."""
    return _at_noise(key, shape, 0.8)


def _at_noise(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    coins, rest = jax.random.split(key)
    there = jax.random.bernoulli(coins, share, shape)
    return jnp.where(there, 0.0, noisy_logit_normal(rest, shape))


TIME_SAMPLERS: dict[str, TimeSampler] = {
    "logit_normal": logit_normal,
    "uniform": uniform,
    "noisy_logit_normal": noisy_logit_normal,
    "half_at_noise": half_at_noise,
    "mostly_at_noise": mostly_at_noise,
}


def time_sampler(name: str) -> TimeSampler:
    """Looks a time sampler up by name.

    Raises:
      UserError: unknown name.
    """
    if name not in TIME_SAMPLERS:
        raise UserError(f"time sampler {name!r} is unknown; choose from {', '.join(TIME_SAMPLERS)}")
    return TIME_SAMPLERS[name]


def time_grid(steps: int, shift: float = 1.0) -> jax.Array:
    """The `steps + 1` times from 0 to 1 that a solver visits.

    Uniform times u are shifted to u / (u + s - s * u); s > 1 spends more steps near noise.
    """
    u = jnp.linspace(0.0, 1.0, steps + 1, dtype=jnp.float32)
    return u / (u + shift - shift * u)
