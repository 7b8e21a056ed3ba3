"""Computing metrics: checks of the images, choice of metrics, and compiled programs for them."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.buckets import bucket, padded
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.grey import luminance, luminance_in_numpy, stretched
from ditfuse_jax.evaluate.metrics.metric import Metric, TwoSteps
from ditfuse_jax.evaluate.metrics.presets import METRIC_PRESETS, MetricPreset
from ditfuse_jax.evaluate.metrics.registry import METRICS, TASK_METRICS
from ditfuse_jax.evaluate.metrics.sums import Size
from ditfuse_jax.images import check_rgb, check_same_size, with_depth
from ditfuse_jax.registry import num_registrations

# Each bucket, choice of metrics and preset has its own compiled program.  So many are kept.
_PROGRAMS = 64
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
    # Metrics that ignore padding share the programs of a bucket; others need the exact size.
    can_pad = {name: _can_pad(preset.metric(name), preset) for name in names}
    scores = {}
    if whole := tuple(name for name in names if not can_pad[name]):
        scores |= _run(candidates, sources, clean, whole, preset, pad=False)
    if others := tuple(name for name in names if can_pad[name]):
        scores |= _run(candidates, sources, clean, others, preset, pad=True)
    return scores


def _can_pad(metric: Metric, preset: MetricPreset) -> bool:
    # What is prepared is made from grey images as they are.
    changes_images = preset.stretches or preset.by_channel
    return metric.padded and not (metric.prepare and changes_images)


def _run(
    candidates: np.ndarray,
    sources: np.ndarray,
    clean: np.ndarray | None,
    names: tuple[str, ...],
    preset: MetricPreset,
    pad: bool,
) -> dict[str, np.ndarray]:
    count, height, width, _ = candidates.shape
    area = math.prod(bucket((height, width))) if pad else height * width
    at_once = min(count, max(1, _PIXELS_AT_ONCE // area))
    parts = []
    for first in range(0, count, at_once):
        # The last part overlaps the one before, so that all have the same shape.
        first = min(first, count - at_once)
        part = candidates[first : first + at_once]
        run = _run_padded if pad else _run_whole
        parts.append((first, jax.device_get(run(part, sources, clean, names, preset))))
    scores = {name: np.empty(count, np.float32) for name in names}
    for first, part in parts:
        for name, values in part.items():
            scores[name][first : first + at_once] = values
    return scores


def _run_whole(
    candidates: np.ndarray,
    sources: np.ndarray,
    clean: np.ndarray | None,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, Any]:
    shapes = candidates.shape, sources.shape, clean is not None
    program = _program(names, preset.name, num_registrations(), *shapes)
    return program(candidates, sources, clean)


def _run_padded(
    candidates: np.ndarray,
    sources: np.ndarray,
    clean: np.ndarray | None,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, Any]:
    metrics = {name: preset.metric(name) for name in names}
    size = np.int32(candidates.shape[1]), np.int32(candidates.shape[2])
    images = _padded_rgb(candidates), _padded_rgb(sources), clean
    shapes = images[0].shape, images[1].shape, clean is not None
    if clean is not None:
        images = (*images[:2], _padded_rgb(clean))
    prepares = {name: metric.prepare for name, metric in metrics.items() if metric.prepare}
    scores = {}
    # First those that need no preparation: they run while the others are prepared.
    for some in (tuple(name for name in names if name not in prepares), tuple(prepares)):
        if not some:
            continue
        prepared = {}
        if some[0] in prepares:
            stack = luminance_in_numpy(np.concatenate([sources, candidates]))
            prepared = {name: prepares[name](stack, len(sources)) for name in some}
        scores |= _program(some, preset.name, num_registrations(), *shapes)(*images, size, prepared)
    if preset.by_channel:
        return scores
    for name, metric in metrics.items():
        if isinstance(metric.function, TwoSteps):
            scores[name] = _second_step(metric.function.second, len(sources))(scores[name])
            _check_shape(name, scores[name], (len(candidates),))
    return scores


def _padded_rgb(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(padded(np.moveaxis(images, -1, 0)), 0, -1)


@functools.lru_cache(maxsize=_PROGRAMS)
def _second_step(function: Any, sources: int) -> Any:
    return jax.jit(lambda features: function(features, sources))


@functools.lru_cache(maxsize=_PROGRAMS)
def _program(names: tuple[str, ...], preset: str, registrations: int, *shape: object):
    """A compiled program for images of one shape, freed when it leaves this cache.

    A metric that is registered again, such as by a notebook's cell, gets a new one.
    """
    del registrations, shape  # part of the cache's key only
    convention = METRIC_PRESETS[preset]
    return jax.jit(functools.partial(_score, names=names, preset=convention))


def _score(
    candidates: jax.Array,
    sources: jax.Array,
    clean: jax.Array | None,
    size: Size = None,
    prepared: Mapping[str, Any] | None = None,
    *,
    names: tuple[str, ...],
    preset: MetricPreset,
) -> dict[str, Any]:
    """Scores; of padded images, for a metric of two steps, what the first step returns."""
    in_steps = size is not None and not preset.by_channel

    def score_grey(sources: jax.Array, fused: jax.Array) -> dict[str, Any]:
        fused = stretched(fused, size) if preset.stretches else fused
        images = Comparison(sources, fused, candidates, clean, size, prepared)
        scores = {}
        for name in names:
            function = preset.metric(name).function
            if in_steps and isinstance(function, TwoSteps):
                scores[name] = function.first(images)
            else:
                scores[name] = function(images)
                _check_shape(name, scores[name], (len(candidates),))
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
