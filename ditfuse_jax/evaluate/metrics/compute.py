"""Scoring images: checks, choice of metrics and compiled programs for them."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.grey import luminance, stretched
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.presets import METRIC_PRESETS, MetricPreset
from ditfuse_jax.evaluate.metrics.registry import METRIC_GROUPS, METRICS
from ditfuse_jax.evaluate.metrics.sums import Size
from ditfuse_jax.images import check_rgb, check_same_size

# Every size, choice of metrics and preset is a program of its own.  So many are kept.
_PROGRAMS = 64
# Sides are padded to multiples of it where a metric can ignore padding, for fewer sizes.
_STEP = 128
# Pixels of all candidates that are scored at once, lest large images fill the memory.
_PIXELS_AT_ONCE = 1 << 23


def compute_metrics(
    fused: np.ndarray,
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    preset: str = "canonical",
) -> dict[str, float]:
    """Scores one fused image.

    Args:
      fused: uint8 RGB `(H, W, 3)`.
      sources: one or more images like it.
      clean: the photograph that full-reference metrics compare with.
      names: metrics of `METRICS`, or a suite as `METRIC_GROUPS["mff"]`; by default those of
        `METRIC_GROUPS["default"]` that the images allow: without a clean image, with other than two
        sources, or smaller than a metric's window they are fewer.
      preset: of `METRIC_PRESETS`: the conventions of the code that a published table was made with.

    Returns:
      Metric name -> value.  PSNR of identical images is `inf`; a value that the images leave
      undefined is NaN, and `why_undefined(name)` says when that is.

    Raises:
      UserError: an unknown preset or metric, one that the clean image, the number of sources or the
        size does not allow, or images of different sizes.
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
    """Scores M fused images of the same scene at once; what depends on the sources is shared.

    Arguments and errors are those of `score`, with a sequence of M fused images.

    Returns:
      Metric name -> float32 `(M,)`.
    """
    if not len(candidates) or not len(sources):
        raise UserError("nothing to score: at least one fused image and one source are needed")
    if preset not in METRIC_PRESETS:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(METRIC_PRESETS)}")
    images = {f"fused image {i + 1}": image for i, image in enumerate(candidates)}
    images |= {f"source {i + 1}": image for i, image in enumerate(sources)}
    images |= {} if clean is None else {"the clean image": clean}
    for label, image in images.items():
        check_rgb(image, label)
    check_same_size(list(images.values()), list(images))

    convention = METRIC_PRESETS[preset]
    chosen = _choose(names, convention, _Given(clean is not None, len(sources), images))
    on_host = [name for name in chosen if METRICS[name].needs == "host"]
    compiled = tuple(name for name in chosen if name not in on_host)
    scores = _compute(np.stack(candidates), np.stack(sources), clean, compiled, convention)
    for name in on_host:
        values = [METRICS[name].function(candidate) for candidate in candidates]
        scores[name] = np.array(values, np.float32)
    return {name: scores[name] for name in chosen}


def scene_metrics(
    candidates: jax.Array, sources: jax.Array, clean: jax.Array | None, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Scores M images of a scene, unchecked; can be traced.

    Args:
      candidates: uint8 `(M, H, W, 3)`.
      sources: uint8 `(K, H, W, 3)`.
      clean: uint8 `(H, W, 3)`.
      names: metrics of `METRICS`, not those computed on the host.

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
    # Presets are used for a table now and then: only canonical metrics are told what is padding.
    can_pad = {name for name in names if METRICS[name].padded and preset.name == "canonical"}
    if padded := tuple(name for name in names if name in can_pad):
        size = np.int32(candidates.shape[1]), np.int32(candidates.shape[2])
        images = _pad(candidates), _pad(sources), None if clean is None else _pad(clean)
        scores |= _run(*images, size, padded, preset)
    if whole := tuple(name for name in names if name not in can_pad):
        scores |= _run(candidates, sources, clean, None, whole, preset)
    return scores


def _pad(images: np.ndarray) -> np.ndarray:
    """Adds zeros to the right of and below uint8 `(..., H, W, 3)`."""
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
        # The last part reaches back, so that all have the same shape.
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
    """A compiled program for images of one shape; with the last use of it, it is freed."""
    del shape  # it only tells programs apart
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
        return {name: preset.metric(name).function(images) for name in names}

    if not preset.by_channel:
        return score_grey(luminance(sources), luminance(candidates))
    by_channel = jax.vmap(score_grey, in_axes=-1)(
        sources.astype(jnp.float32), candidates.astype(jnp.float32)
    )
    return {name: jnp.mean(values, axis=0) for name, values in by_channel.items()}


class _Given:
    """What the images allow."""

    def __init__(self, has_clean: bool, sources: int, images: dict[str, np.ndarray]):
        self.height, self.width, _ = next(iter(images.values())).shape
        self.has_clean, self.sources = has_clean, sources

    def objection(self, metric: Metric) -> str:
        """Why a metric cannot be computed; "" if it can."""
        if metric.needs == "clean" and not self.has_clean:
            return "compares with a clean image, and there is none"
        if metric.needs == "pair" and self.sources != 2:
            return f"is defined for two sources, not {self.sources}: leave it out"
        if min(self.height, self.width) < metric.smallest_side:
            return (
                f"needs sides of at least {metric.smallest_side} pixels, got"
                f" {self.width}x{self.height}: leave it out or score larger images"
            )
        return ""


def _choose(names: Sequence[str] | None, preset: MetricPreset, given: _Given) -> tuple[str, ...]:
    if names is None:
        default = METRIC_GROUPS["default"]
        return tuple(name for name in default if not given.objection(preset.metric(name)))
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric {name!r}: choose from {', '.join(METRICS)}")
        if objection := given.objection(preset.metric(name)):
            raise UserError(f"metric {name!r} {objection}")
    return tuple(dict.fromkeys(names))
