"""What a metric is: one function, and the facts that a table needs to print its value."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ditfuse_jax.errors import UserError

Needs = Literal["fused", "sources", "pair", "clean", "host"]
Direction = Literal["higher", "lower", "zero"]


@dataclass(frozen=True)
class TwoSteps:
    """The function of a metric whose second step it shares with others, as a program of its own.

    Attributes:
      first: takes a `Comparison`, returns arrays of the same shapes for all metrics that share the
        second step.
      second: takes them and the number of sources, returns the scores `(M,)`.
    """

    first: Callable[[Any], Any]
    second: Callable[[Any, int], Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.first.__doc__)

    def __call__(self, images: Any) -> Any:
        return self.second(self.first(images), len(images.sources))


def two_steps(second: Callable[[Any, int], Any]) -> Callable[[Callable[[Any], Any]], TwoSteps]:
    """Makes the decorated function the first step of a metric."""
    return functools.partial(TwoSteps, second=second)


@dataclass(frozen=True)
class Metric:
    """An entry of `METRICS`.

    Attributes:
      name: the key in tables and in `report.json`.
      title: as the literature prints it, with "sum" or "mean" where sources are pooled.
      function: pure JAX, takes a `Comparison` and returns one float32 score for each of its M fused
        images, `(M,)`.  Where `needs` is "host", any Python function from one fused image, uint8
        RGB `(H, W, 3)`, to a number: for metrics with their own weights and framework.
      needs: what the function reads: the fused image alone, any number of sources, exactly two
        sources ("pair"), or the clean image.
      direction: which values are better; with "zero", those nearest to zero.
      unit: of the value; empty without one.
      smallest_side: pixels; smaller images cannot be scored.
      padded: whether the function ignores what lies beyond `Comparison.size`.
      prepare: computes what would have to be compiled for every size, such as Fourier transforms,
        in NumPy and SciPy: takes the grey images of sources and fused images at their exact size,
        float64 `(K + M, H, W)`, and K; returns float32 arrays `(..., H, W)`, padded
        (`buckets.padded`), which the function finds in `Comparison.prepared` by the metric's name.
        It is called for padded images only.
      nan_when: when the value is NaN, e.g. "where an image is flat"; empty if it never is.
    """

    name: str
    title: str
    function: Callable[..., Any]
    needs: Needs = "sources"
    direction: Direction = "higher"
    unit: str = ""
    smallest_side: int = 1
    padded: bool = False
    prepare: Callable[..., Any] | None = None
    nan_when: str = ""

    def __post_init__(self) -> None:
        for field, choices in (("needs", get_args(Needs)), ("direction", get_args(Direction))):
            value = getattr(self, field)
            if value not in choices:
                raise UserError(
                    f"metric {self.name!r}: {field} {value!r} is unknown; "
                    f"choose from {', '.join(choices)}"
                )

    @property
    def definition(self) -> Callable[..., Any]:
        """The user's function, by which `Registry` knows a metric that is registered again."""
        return self.function.first if isinstance(self.function, TwoSteps) else self.function

    @property
    def arrow(self) -> str:
        """The direction as one character."""
        return {"higher": "↑", "lower": "↓", "zero": "0"}[self.direction]

    def merit(self, value: float) -> float:
        """Returns a number that is larger for better values."""
        return {"higher": value, "lower": -value, "zero": -abs(value)}[self.direction]

    def why_impossible(self, has_clean: bool, num_sources: int, size: tuple[int, int]) -> str:
        """Returns why the metric cannot be computed for such images; "" if it can.

        Args:
          has_clean: whether there is a clean image.
          num_sources: of the scene.
          size: height and width, pixels.
        """
        if self.needs == "clean" and not has_clean:
            return "compares with a clean image, and there is none"
        if self.needs == "pair" and num_sources != 2:
            return f"is defined for two sources, not {num_sources}"
        if min(size) < self.smallest_side:
            return f"needs sides of at least {self.smallest_side} pixels, got {size[1]}x{size[0]}"
        return ""
