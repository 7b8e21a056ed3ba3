"""Computing metrics: checks of the images, choice of metrics, and compiled programs for them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.grey import luminance, stretched
from ditfuse_jax.evaluate.metrics.presets import METRIC_PRESETS, MetricPreset
from ditfuse_jax.evaluate.metrics.registry import METRICS, TASK_METRICS
from ditfuse_jax.evaluate.metrics.sums import Size
from ditfuse_jax.images import check_rgb, check_same_size, with_depth

# Each size, choice of metrics and preset has its own compiled program.  So many are kept.
_PROGRAMS = 64
# For metrics that can ignore padding, sides are padded to multiples of this: fewer programs.
_STEP = 128
# Limits the memory: pixels of all candidates that are scored together.
_PIXELS_AT_ONCE = 1 << 23


def compute_metrics(
    fused: np.ndarray,
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    preset: str = "canonical",
) -> dict[str, float]:
    """Computes metrics of one fused image.

    Args:
      fused: RGB `(H, W, 3)`, uint8, or uint16, which is rounded to 8 bits: the metrics are defined
        on 256 levels.
      sources: one or more images of the same shape.
      clean: the photograph that full-reference metrics compare with, of the same shape.
      names: keys of `METRICS`; by default those of `TASK_METRICS["fuse"]` that can be computed
        with or without a clean image, for this number of sources and this size.
      preset: a key of `METRIC_PRESETS`: the conventions of the code behind a published table.

    Returns:
      Metric name -> value.  PSNR of identical images is `inf`; an undefined value is NaN, and
      `METRICS[name].nan_when` explains when that happens.

    Raises:
      UserError: an unknown preset or metric, a metric that cannot be computed for such images or
        returns another shape than it should, or images of different sizes.
    """
    scores = compute_metrics_of_candidates([fused], sources, clean, names, preset)
    return {name: float(values[0]) for name, values in scores.items()}


def compute_metrics_of_candidates(
    candidates: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    preset: str = "canonical",
) -> dict[str, np.ndarray]:
    """Computes metrics of M fused images of one scene; work that depends on the sources is shared.

    Arguments and errors are those of `compute_metrics`, with a sequence of M fused images.

    Returns:
      Metric name -> float32 `(M,)`.
    """
    if not len(candidates) or not len(sources):
        raise UserError("metrics need at least one fused image and one source")
    convention = METRIC_PRESETS.find(preset)
    images = {f"fused image {i + 1}": image for i, image in enumerate(candidates)}
    images |= {f"source {i + 1}": image for i, image in enumerate(sources)}
    images |= {} if clean is None else {"the clean image": clean}
    for label, image in images.items():
        check_rgb(image, label, deep=True)
    check_same_size(list(images.values()), list(images))

    candidates = [with_depth(image, 8) for image in candidates]
    sources = [with_depth(image, 8) for image in sources]
    clean = None if clean is None else with_depth(clean, 8)
    size = candidates[0].shape[0], candidates[0].shape[1]
    chosen = _choose(names, convention, clean is not None, len(sources), size)
    on_host = [name for name in chosen if METRICS[name].needs == "host"]
    compiled = tuple(name for name in chosen if name not in on_host)
    scores = _compute(np.stack(candidates), np.stack(sources), clean, compiled, convention)
    for name in on_host:
        values = [METRICS[name].function(candidate) for candidate in candidates]
        for value in values:
            _check_shape(name, value, ())
        scores[name] = np.array(values, np.float32)
    return {name: scores[name] for name in chosen}


def scene_metrics(
    candidates: jax.Array, sources: jax.Array, clean: jax.Array | None, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Computes metrics of M fused images of one scene inside a jitted function, without checks.

    Args:
      candidates: uint8 `(M, H, W, 3)`.
      sources: uint8 `(K, H, W, 3)`.
      clean: uint8 `(H, W, 3)`.
      names: keys of `METRICS`, except metrics that are computed on the host.

    Returns:
      Metric name -> float32 `(M,)`.
    """
    return _score(candidates, sources, clean, names=names, preset=METRIC_PRESETS["canonical"])


def _compute(
    candidates: np.ndarray,
    sources: np.ndarray,
    clean: np.ndarray | None,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, np.ndarray]:
    scores = {}
    # Presets are rarely used, so only canonical metrics are made to ignore padding.
    can_pad = {name for name in names if METRICS[name].padded and preset.name == "canonical"}
    if padded := tuple(name for name in names if name in can_pad):
        size = np.int32(candidates.shape[1]), np.int32(candidates.shape[2])
        images = _pad(candidates), _pad(sources), None if clean is None else _pad(clean)
        scores |= _run(*images, size, padded, preset)
    if whole := tuple(name for name in names if name not in can_pad):
        scores |= _run(candidates, sources, clean, None, whole, preset)
    return scores


def _pad(images: np.ndarray) -> np.ndarray:
    """Pads uint8 `(..., H, W, 3)` with zeros on the right and at the bottom."""
    borders = [(0, -side % _STEP) for side in images.shape[-3:-1]]
    return np.pad(images, [*((0, 0),) * (images.ndim - 3), *borders, (0, 0)])


def _run(
    candidates: np.ndarray,
    sources: np.ndarray,
    clean: np.ndarray | None,
    size: tuple[np.int32, np.int32] | None,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, np.ndarray]:
    count, height, width, _ = candidates.shape
    at_once = min(count, max(1, _PIXELS_AT_ONCE // (height * width)))
    program = _program(names, preset.name, at_once, sources.shape, clean is not None)
    parts = []
    for first in range(0, count, at_once):
        # The last part overlaps the one before, so that all have the same shape.
        first = min(first, count - at_once)
        part = jax.device_get(program(candidates[first : first + at_once], sources, clean, size))
        parts.append((first, part))
    scores = {name: np.empty(count, np.float32) for name in names}
    for first, part in parts:
        for name, values in part.items():
            scores[name][first : first + at_once] = values
    return scores


@functools.lru_cache(maxsize=_PROGRAMS)
def _program(names: tuple[str, ...], preset: str, *shape: object):
    """A compiled program for images of one shape, freed when it leaves this cache."""
    del shape  # part of the cache's key only
    convention = METRIC_PRESETS[preset]
    return jax.jit(functools.partial(_score, names=names, preset=convention))


def _score(
    candidates: jax.Array,
    sources: jax.Array,
    clean: jax.Array | None,
    size: Size = None,
    *,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, jax.Array]:
    def score_grey(sources: jax.Array, fused: jax.Array) -> dict[str, jax.Array]:
        fused = stretched(fused) if preset.stretches else fused
        images = Comparison(sources, fused, candidates, clean, size)
        scores = {name: preset.metric(name).function(images) for name in names}
        for name, values in scores.items():
            _check_shape(name, values, (len(candidates),))
        return scores

    if not preset.by_channel:
        return score_grey(luminance(sources), luminance(candidates))
    by_channel = jax.vmap(score_grey, in_axes=-1)(
        sources.astype(jnp.float32), candidates.astype(jnp.float32)
    )
    return {name: jnp.mean(values, axis=0) for name, values in by_channel.items()}


def _check_shape(name: str, values: Any, expected: tuple[int, ...]) -> None:
    """Refuses other shapes, which broadcasting would give the same score for every image."""
    if np.shape(values) != expected:
        what = "one value per fused image" if expected else "a number"
        raise UserError(
            f"metric {name!r} must return {what}, shape {expected}, not shape {np.shape(values)}"
        )


def _choose(
    names: Sequence[str] | None,
    preset: MetricPreset,
    has_clean: bool,
    num_sources: int,
    size: tuple[int, int],
) -> tuple[str, ...]:
    if names is None:
        return tuple(
            name
            for name in TASK_METRICS["fuse"]
            if not preset.metric(name).why_impossible(has_clean, num_sources, size)
        )
    for name in names:
        METRICS.find(name)
        if reason := preset.metric(name).why_impossible(has_clean, num_sources, size):
            raise UserError(f"metric {name!r} {reason}: leave it out")
    return tuple(dict.fromkeys(names))
