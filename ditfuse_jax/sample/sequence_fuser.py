"""A model that fuses the frames of a sequence, with what neighbouring frames have in common."""

import dataclasses
import numbers
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np

from ditfuse_jax.ahead import iterate_ahead
from ditfuse_jax.checks import check_type
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.static_smoothing import SHARE, StaticSmoother
from ditfuse_jax.sample.text_slots import with_short_slots
from ditfuse_jax.sample.trained import TrainedModel

REUSE = 8
_READ_AHEAD = _FUSED_AHEAD = 1  # frames that wait at most between two threads


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
        check_type("reuse", self.reuse, numbers.Integral, "a whole number of frames")
        check_type("smoothing", self.smoothing, numbers.Real, "a number")
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
        *,
        ahead: bool = False,
    ):
        """Creates a fuser.

        Args:
          trained: the model.
          sampling: its settings.
          prompts: all full prompts that frames have; empty if they are not known, as those that
            mark a region: then nothing is reused and text slots keep their length.
          count: number of sources.
          settings: how neighbouring frames are used.
          ahead: read, fuse and smooth frames in a thread each, so that what is done to one frame
            overlaps with what is done to those before and after.  Some frames are then read before
            a fused one is given back: for sources that do not wait, not for a live camera, and
            not for large frames, since several are in memory then.
        """
        settings = settings or SequenceSettings()
        if prompts:
            sampling = with_short_slots(trained, sampling, prompts, count)
        self.stack_fuser = StackFuser(trained, sampling)
        if prompts and settings.reuse > 1 and sampling.batch_size == 1:
            self.stack_fuser.reuse = EncodingReuse(settings.reuse)
        self._ahead = ahead
        self.stack_fuser.ahead = ahead and self.stack_fuser.reuse is not None
        self._smoother = StaticSmoother(settings.smoothing) if settings.smoothing else None

    def __call__(
        self, frames: Iterable[tuple[int, FusionInput]]
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """Yields number and fused image (H, W, 3) of each frame, in their order.

        Raises:
          UserError: see `StackFuser.fuse_iter`.
        """
        sources: dict[int, Sequence[np.ndarray]] = {}

        def remembered() -> Iterator[tuple[int, FusionInput]]:
            read = iterate_ahead(frames, _READ_AHEAD, "read") if self._ahead else frames
            for number, item in read:
                sources[number] = item.sources
                yield number, item

        fused = self.stack_fuser.fuse_iter(remembered())
        fused = iterate_ahead(fused, _FUSED_AHEAD, "fuse") if self._ahead else fused
        for done in fused:
            for number in sorted(done):  # without names for large images, which would keep them
                yield number, self._smoothed(number, sources.pop(number), done.pop(number))

    def _smoothed(
        self, number: int, sources: Sequence[np.ndarray], image: np.ndarray
    ) -> np.ndarray:
        return image if self._smoother is None else self._smoother(number, sources, image)
