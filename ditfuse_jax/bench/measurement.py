"""What a benchmark measures: the seconds of several repetitions."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Attributes:
    seconds: of each repetition, after one that is not counted.
    images: examples per repetition.
    flops: model FLOPs per repetition, 0 where there are none to speak of.
    facts: what was measured.
    """

    seconds: Sequence[float]
    images: int
    flops: float
    facts: dict[str, Any]


def time_repeats(run: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each repetition, after one that is not counted; waits for the devices."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - started)
    return seconds
