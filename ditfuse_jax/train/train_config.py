"""The settings of the training loop."""

import dataclasses

from ditfuse_jax.checks import check_at_least, check_fraction
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.compiler_options import check_compiler_options


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """`config.train` of a recipe; intervals are in steps, and 0 means never.

    Attributes:
      steps: total number of updates.
      accumulation: micro-batches whose gradients are averaged for one update.
      ema_decay: of the averaged parameters; 0 keeps no average.
      spike_factor: an update whose gradient norm exceeds this multiple of the norm's moving
        average is skipped; 0 skips none.
      log_every: interval of the metrics.
      checkpoint_every: interval of the checkpoints; the last step is always saved.
      keep_checkpoints: how many of the newest checkpoints are kept.
      keep_best: scalar of the evaluations whose best checkpoint is kept as well; empty for none.
      data_timeout: seconds to wait for a batch before the run ends.
      hang_timeout: seconds that one activity (a step, an evaluation, ...) may take before the run
        ends with the stacks of all threads in its folder; 0 for no limit.
      profile_steps: (first, last) update of which a profile is written to the run folder; empty for
        none.
      dump_hlo: write the compiled step as text to the run folder, before and after optimisation.
      writers: names in `WRITERS`, which record the metrics.
      callbacks: names in `CALLBACKS`, which are called after every update.
      compiler_options: `NAME=VALUE` for XLA's compiler, and `auto` for the chip's; see
        `parallel.compiler_options`.
    """

    steps: int = 100_000
    accumulation: int = 1
    ema_decay: float = 0.9999
    spike_factor: float = 10.0
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    keep_best: str = "PSNR_clean"
    data_timeout: float = 600.0
    hang_timeout: float = 3600.0
    profile_steps: tuple[int, ...] = ()
    dump_hlo: bool = False
    writers: tuple[str, ...] = ("jsonl", "tensorboard", "html")
    callbacks: tuple[str, ...] = ()
    compiler_options: tuple[str, ...] = ("auto",)

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "log_every", "keep_checkpoints"):
            check_at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("checkpoint_every", "spike_factor", "data_timeout", "hang_timeout"):
            check_at_least(f"train.{name}", getattr(self, name), 0)
        check_fraction("train.ema_decay", self.ema_decay)
        steps = self.profile_steps
        numbers = all(isinstance(step, int) for step in steps)
        if steps and not (numbers and len(steps) == 2 and 1 <= steps[0] <= steps[1]):
            raise UserError(
                f"train.profile_steps must be empty or (first, last) from 1 on, not {steps}"
            )
        check_compiler_options(self.compiler_options)
