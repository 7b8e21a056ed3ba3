"""The result of a benchmark: the durations of several repetitions."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Durations and what they are of.

    Attributes:
      seconds: of each repetition, after an untimed one.
      images: examples per repetition.
      flops: model FLOPs per repetition; 0 where no model is run.
      facts: further values to report, by name.
    """

    seconds: Sequence[float]
    images: int
    flops: float
    facts: dict[str, Any]


def time_repeats(run: Callable[[], Any], repeats: int) -> list[float]:
    """Returns the seconds of each repetition after an untimed one; waits for the devices."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - started)
    return seconds
