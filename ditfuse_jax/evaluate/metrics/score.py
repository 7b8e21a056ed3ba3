"""Scoring images: checks, choice of metrics and one compiled program per image size."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.grey import luminance
from ditfuse_jax.evaluate.metrics.registry import METRICS
from ditfuse_jax.images import check_rgb, check_same_size


def score(
    fused: np.ndarray,
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    scores = score_candidates([fused], sources, clean, names)
    return {name: float(values[0]) for name, values in scores.items()}


def score_candidates(
    candidates: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    chosen = tuple(names or METRICS)
    scores = jax.device_get(_score(np.stack(candidates), np.stack(sources), clean, names=chosen))
    return {name: scores[name] for name in chosen}


@functools.partial(jax.jit, static_argnames="names")
def _score(
    candidates: jax.Array, sources: jax.Array, clean: jax.Array | None, *, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    images = Comparison(luminance(sources), luminance(candidates), candidates, clean)
    return {name: METRICS[name].function(images) for name in names}
