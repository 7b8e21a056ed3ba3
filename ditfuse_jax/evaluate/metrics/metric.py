"""What a metric is: one pure function and the facts a table needs to print it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax

Needs = Literal["fused", "sources", "clean"]
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """One entry of the registry.

    `function` is pure JAX on one image, so it can be jitted and vmapped.  What it is called with
    follows from `needs`:

      "fused":   function(fused)            grey `(H, W)`
      "sources": function(fused, sources)   grey `(H, W)` and `(K, H, W)`, K >= 1
      "clean":   function(fused, clean)     RGB `(H, W, 3)` twice

    Every image is float32 holding the integers 0..255 exactly; grey is
    `ditfuse_jax.evaluate.metrics.grey.luminance`.  The function returns a float32 scalar.
    """

    name: str  # lower case: the key in tables and in report.json
    title: str  # as the literature prints it, with "sum" or "mean" where sources are pooled
    function: Callable[..., jax.Array]
    needs: Needs
    direction: Direction  # which values are better
    unit: str  # "" where the number has none
    family: str
    smallest_side: int = 1  # pixels: images smaller than this cannot be scored
