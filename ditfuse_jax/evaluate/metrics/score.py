"""Scoring images: checks, choice of metrics and one jitted program per image size."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.grey import luminance
from ditfuse_jax.evaluate.metrics.registry import METRICS
from ditfuse_jax.images import check_rgb, check_same_size


def score(
    fused: np.ndarray,
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Scores one fused image.

    Args:
      fused: uint8 RGB `(H, W, 3)`.
      sources: one or more images like it.
      clean: the photograph that full-reference metrics compare with.
      names: metrics of `METRICS`; all that `clean` allows by default.

    Returns:
      Metric name -> value.  PSNR of identical images is `inf`.

    Raises:
      UserError: an unknown metric, one that needs `clean` without it, images of different sizes or
        smaller than a metric's window.
    """
    scores = score_candidates([fused], sources, clean, names)
    return {name: float(values[0]) for name, values in scores.items()}


def score_candidates(
    candidates: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    clean: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Scores M fused images of the same scene at once; what depends on the sources is shared.

    Arguments and errors are those of `score`, with a sequence of M fused images.

    Returns:
      Metric name -> float32 `(M,)`.
    """
    if not len(candidates) or not len(sources):
        raise UserError("nothing to score: at least one fused image and one source are needed")
    chosen = _choose(names, has_clean=clean is not None)
    images = {f"fused image {i + 1}": image for i, image in enumerate(candidates)}
    images |= {f"source {i + 1}": image for i, image in enumerate(sources)}
    images |= {} if clean is None else {"the clean image": clean}
    _check_images(images, chosen)
    scores = jax.device_get(
        score_scene(np.stack(candidates), np.stack(sources), clean, names=chosen)
    )
    return {name: scores[name] for name in chosen}


@functools.partial(jax.jit, static_argnames="names")
def score_scene(
    candidates: jax.Array, sources: jax.Array, clean: jax.Array | None, *, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """The program behind `score_candidates`: M images of a scene, unchecked -> `(M,)` each."""
    grey_sources = luminance(sources)
    clean = None if clean is None else clean.astype(jnp.float32)

    def score_one(fused: jax.Array) -> dict[str, jax.Array]:
        arguments = {
            "fused": (luminance(fused),),
            "sources": (luminance(fused), grey_sources),
            "clean": (fused.astype(jnp.float32), clean),
        }
        return {name: METRICS[name].function(*arguments[METRICS[name].needs]) for name in names}

    return jax.vmap(score_one)(candidates)


def _choose(names: Sequence[str] | None, has_clean: bool) -> tuple[str, ...]:
    if names is None:
        return tuple(name for name, m in METRICS.items() if has_clean or m.needs != "clean")
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric {name!r}: choose from {', '.join(METRICS)}")
        if METRICS[name].needs == "clean" and not has_clean:
            raise UserError(f"metric {name!r} compares with a clean image, and there is none")
    return tuple(dict.fromkeys(names))


def _check_images(images: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    for label, image in images.items():
        check_rgb(image, label)
    check_same_size(list(images.values()), list(images))
    height, width, _ = next(iter(images.values())).shape
    for name in names:
        if min(height, width) < (least := METRICS[name].smallest_side):
            raise UserError(
                f"metric {name!r} needs sides of at least {least} pixels, got {width}x{height}:"
                " leave it out or score larger images"
            )
