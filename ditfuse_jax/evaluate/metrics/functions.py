"""Each metric as a function of arrays: `metrics.qabf(a, b, fused)`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics.compute import compute_metrics
from ditfuse_jax.evaluate.metrics.registry import METRICS
from ditfuse_jax.images import load_image
from ditfuse_jax.images.samples import as_rgb

MetricFunction = Callable[..., Any]


def metric_function(name: str) -> MetricFunction:
    """Returns the metric of a name, in any case, as a function of images.

    Raises:
      AttributeError: there is no such metric.
    """
    found = next((known for known in METRICS if known.lower() == name.lower()), None)
    if found is None:
        raise AttributeError(f"there is no metric {name!r}: METRICS lists them")
    function = functools.partial(_score, found)
    function.__doc__ = METRICS[found].title
    return function


def _score(name: str, *images: Any, clean: Any = None, preset: str = "canonical") -> Any:
    """Computes one metric.

    Args:
      name: a key of `METRICS`.
      images: the sources, then the fused image; the fused image alone where the metric needs no
        source.  Each is a path, an image of Pillow, or an array: uint8, uint16, or float from 0 to
        1, (H, W) or (H, W, 3).  Arrays (N, H, W, 3) are N scenes.
      clean: the photograph that full-reference metrics compare with.
      preset: see `compute_metrics`.

    Returns:
      A float; of N scenes float32 (N,).

    Raises:
      UserError: see `compute_metrics`; sources are missing; scenes of unequal number.
    """
    given = images if clean is None else (*images, clean)
    if not images or (len(images) == 1 and METRICS[name].needs in ("sources", "pair")):
        raise UserError(f"metric {name!r} needs the sources and then the fused image")
    if not any(getattr(image, "ndim", 0) == 4 for image in given):
        return _score_scene(name, images, clean, preset)
    lengths = {len(image) if getattr(image, "ndim", 0) == 4 else 0 for image in given}
    if len(lengths) != 1:
        raise UserError("sources, fused and clean images must all be arrays of as many scenes")
    scores = []
    for k in range(lengths.pop()):
        reference = None if clean is None else clean[k]
        scores.append(_score_scene(name, [image[k] for image in images], reference, preset))
    return np.array(scores, np.float32)


def _score_scene(name: str, images: Sequence[Any], clean: Any, preset: str) -> float:
    *sources, fused = [_pixels(image, f"image {k}") for k, image in enumerate(images, start=1)]
    reference = None if clean is None else _pixels(clean, "the clean image")
    # A metric of the fused image alone ignores its sources.
    return compute_metrics(fused, sources or [fused], reference, [name], preset)[name]


def _pixels(image: Any, name: str) -> np.ndarray:
    """Returns uint8 or uint16 (H, W, 3), with black at 0 and white at the largest value."""
    values = load_image(image, name).samples.values
    if values.dtype == np.float32:
        values = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return as_rgb(values)
