"""What a metric is: one pure function and the facts a table needs to print it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Needs = Literal["fused", "sources", "pair", "clean", "host"]
Direction = Literal["higher", "lower", "zero"]


@dataclass(frozen=True)
class Metric:
    """One entry of the registry.

    `function` is pure JAX, takes a `Comparison` and returns a float32 score for each of its M fused
    images, `(M,)`.  `needs` says what it looks at: the fused image alone, any number of sources,
    exactly two ("pair"), or the clean image.  Where that is "host" it is any Python instead, takes
    one fused image, a uint8 RGB array `(H, W, 3)`, and returns a number: for metrics that bring
    their own weights and framework.
    """

    name: str  # the key in tables and in report.json
    title: str  # as the literature prints it, with "sum" or "mean" where sources are pooled
    function: Callable[..., Any]
    needs: Needs = "sources"
    direction: Direction = "higher"  # which values are better: "zero" is the nearest to it
    unit: str = ""  # where the number has one
    smallest_side: int = 1  # pixels: images smaller than this cannot be scored
    padded: bool = False  # whether what lies beyond `Comparison.size` does not matter
    undefined: str = ""  # when the value is NaN: "where an image is flat"

    @property
    def arrow(self) -> str:
        """The direction as one character."""
        return {"higher": "↑", "lower": "↓", "zero": "0"}[self.direction]

    def merit(self, value: float) -> float:
        """Returns a number that is larger for better values."""
        return {"higher": value, "lower": -value, "zero": -abs(value)}[self.direction]
