"""What a metric is: one pure function and the facts a table needs to print it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax

from ditfuse_jax.evaluate.metrics.comparison import Comparison

Needs = Literal["fused", "sources", "pair", "clean"]
Direction = Literal["higher", "lower", "zero"]


@dataclass(frozen=True)
class Metric:
    """One entry of the registry.

    `function` is pure JAX and returns one float32 score for each of the M fused images, `(M,)`.
    `needs` says what it looks at: the fused image alone, any number of sources, exactly two
    ("pair"), or the clean image instead.
    """

    name: str  # the key in tables and in report.json
    title: str  # as the literature prints it, with "sum" or "mean" where sources are pooled
    function: Callable[[Comparison], jax.Array]
    needs: Needs
    direction: Direction  # which values are better: "zero" is the nearest to it
    unit: str = ""  # where the number has one
    smallest_side: int = 1  # pixels: images smaller than this cannot be scored
    undefined: str = ""  # when the value is NaN: "where an image is flat"
