"""What a client may ask for."""

import dataclasses
import math
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig

# Settings that belong to the server: clients share its batches and its compiled programs.
SERVER_SETTINGS = frozenset({"batch_size", "requests", "text_slots"})


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of what a request may cost.

    Attributes:
      queue: requests that are read, wait or run at the same time; further ones get status 429.
      seconds: from a request's first byte to its answer; then it gets status 504.
      request_bytes: of the body, before it is read further.
      pixels: of each image, by its header, before it is decoded.
      steps: of the solver.
      prompt_characters: of a sentence.

    Raises:
      UserError: a limit is not positive, or not finite.
    """

    queue: int = 32
    seconds: float = 120.0
    request_bytes: int = 64 << 20
    pixels: int = 16_000_000
    steps: int = 200
    prompt_characters: int = 2000

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 < value < math.inf:
                raise UserError(f"the limit {name} must be a number above 0, not {value}")

    def check_sampling(self, changes: dict[str, Any], own: SamplingConfig) -> None:
        """Checks the sampling settings of a request.

        Args:
          changes: setting -> value.
          own: the server's settings.

        Raises:
          UserError: a setting belongs to the server or exceeds its limit.
        """
        for name in changes:
            if name in SERVER_SETTINGS:
                raise UserError(f"{name} is a setting of the server: leave it out")
        steps = changes.get("steps", 1)
        if isinstance(steps, int) and steps > self.steps:
            raise UserError(f"steps must be at most {self.steps} on this server, not {steps}")
        for name in ("max_side", "tile"):  # larger sides need memory that grows with their square
            value, largest = changes.get(name), getattr(own, name)
            if value is not None and largest and not 0 < value <= largest:
                raise UserError(
                    f"{name} must be between 1 and {largest} on this server, not {value}"
                )
