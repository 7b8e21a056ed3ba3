"""A model that fuses the frames of a sequence, with what neighbouring frames have in common."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.static_smoothing import SHARE, StaticSmoother
from ditfuse_jax.sample.text_slots import with_short_slots
from ditfuse_jax.sample.trained import TrainedModel

REUSE = 8


@dataclasses.dataclass(frozen=True)
class SequenceSettings:
    """How neighbouring frames are used.

    Attributes:
      reuse: frames for which what the transformer computed of a tile is used at most: its keys and
        values, and where its sources do not change also its result; 1 computes all afresh.
      smoothing: share of the frame before that is mixed in where nothing moves; 0 for none.

    Raises:
      UserError: a value out of range.
    """

    reuse: int = REUSE
    smoothing: float = SHARE

    def __post_init__(self) -> None:
        if self.reuse < 1:
            raise UserError(f"reuse counts frames, from 1, not {self.reuse}")
        if not 0 <= self.smoothing < 1:
            raise UserError(f"smoothing must be from 0 to below 1, not {self.smoothing}")


class SequenceFuser:
    """Fuses frames in order."""

    def __init__(
        self,
        trained: TrainedModel,
        sampling: SamplingConfig,
        prompts: Sequence[str],
        count: int,
        settings: SequenceSettings | None = None,
    ):
        """Creates a fuser.

        Args:
          trained: the model.
          sampling: its settings.
          prompts: all full prompts that frames have; empty if they are not known, as those that
            mark a region: then nothing is reused and text slots keep their length.
          count: number of sources.
          settings: how neighbouring frames are used.
        """
        settings = settings or SequenceSettings()
        if prompts:
            sampling = with_short_slots(trained, sampling, prompts, count)
        self.stack_fuser = StackFuser(trained, sampling)
        if prompts and settings.reuse > 1 and sampling.batch_size == 1:
            self.stack_fuser.reuse = EncodingReuse(settings.reuse)
        self._smoother = StaticSmoother(settings.smoothing) if settings.smoothing else None

    def __call__(
        self, frames: Iterable[tuple[int, FusionInput]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields number and fused image (H, W, 3) of each frame, in their order.

        Raises:
          UserError: see `StackFuser.fuse_iter`.
        """
        sources: dict[int, Sequence[np.ndarray]] = {}

        def remembered() -> Iterator[tuple[int, FusionInput]]:
            for number, item in frames:
                sources[number] = item.sources
                yield number, item

        for done in self.stack_fuser.fuse_iter(remembered()):
            for number, image in sorted(done.items()):
                stack = sources.pop(number)
                if self._smoother is not None:
                    image = self._smoother(number, stack, image)
                yield number, image
