"""Where the model marks classes, and drawing overlays over other images of the scene.

`SamplingConfig.class_map` says how: by a fusion for each class, whose overlay is taken as it is, or
by one fusion in which all classes are marked (`class_map.py`).
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS
from ditfuse_jax.degrade.overlay import OPACITY, overlay_mask, smooth_overlay
from ditfuse_jax.degrade.restore import balance, expose
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import is_grey, with_depth
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import CLASSES, Request
from ditfuse_jax.sample.class_map import class_labels

Images = Sequence[np.ndarray]

# Grey levels of difference up to which a pixel is not marked, and from which it is fully.
_MARKED = (8.0, 32.0)
_DARK = 55.0  # mean luma of a photograph below which it shows a night
_STREET_LUMA = 0.35  # mean luma that night scenes are brightened to, of the range


@dataclasses.dataclass(frozen=True)
class MarkingFusion:
    """A fusion in which classes are marked.

    Attributes:
      prompt: that marks them.
      side: pixels of the shorter side to which the sources are reduced; 0 if they are not.
    """

    prompt: str
    side: int = 0


class OverlayMarks:
    """Marks by a fusion for each request, whose overlay is taken as it is."""

    def sources(self, sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the images in which classes are marked; `sources` itself if they are."""
        return photographs(sources)

    def needs_plain(self, sources: Sequence[np.ndarray]) -> bool:
        """Whether `find` and `draw` need the plain fusion of these, rather than the first one."""
        del sources
        return True

    def fusions(self, request: Request, sources: Images) -> tuple[MarkingFusion, ...]:
        """Returns the fusions that mark classes; of sources only size and number count."""
        return (MarkingFusion(requests_prompt((request,), len(sources))),)

    def shown(self, fusion: MarkingFusion, sources: Images) -> Images:
        """Returns what `sources` gave, in the size of a fusion."""
        del fusion
        return sources

    def draws(self, request: Request | None) -> bool:
        """Whether an overlay that a user asks for is drawn, rather than the model's own taken."""
        del request
        return False

    def find(self, request: Request, marked: Images, plain: np.ndarray) -> np.ndarray:
        """Returns where the request's classes are, bool (H, W).

        Args:
          request: `segment`.
          marked: the images of `fusions`, uint8 or uint16 (H, W, 3).
          plain: the fusion of the same sources without marks.
        """
        del request
        return overlay_mask(with_depth(marked[0], 8), with_depth(plain, 8))

    def draw(
        self, image: np.ndarray, request: Request, marked: Images, plain: np.ndarray
    ) -> np.ndarray:
        """Returns another image of the scene with the overlay of the request; see `find`."""
        del request
        return moved_overlay(image, marked[0], plain)


class MapMarks(OverlayMarks):
    """Marks by a fusion in which all classes are marked, whose borders then follow the image."""

    def __init__(self, alone: Sequence[str] = (), side: int = 0) -> None:
        """Creates marks.

        Args:
          alone: classes that are also marked each by a fusion of its own.
          side: pixels of the shorter side at which all classes are marked once more; 0 for never.
        """
        self._alone = [Request("segment", classes=(name,)) for name in alone]
        self._side = side
        self._reduced: tuple[Images, Images] | None = None
        # The latest ones, by the identity of their arrays: requests of one scene share them.
        self._shown: tuple[Sequence[np.ndarray], Sequence[np.ndarray]] | None = None
        self._labelled: tuple[Images, np.ndarray] | None = None

    def sources(self, sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """See `OverlayMarks.sources`; night scenes are brightened."""
        kept = self._shown
        if kept is None or [*map(id, kept[0])] != [*map(id, sources)]:
            self._shown = kept = tuple(sources), daylight(photographs(sources))
        return sources if [*map(id, kept[1])] == [*map(id, sources)] else kept[1]

    def needs_plain(self, sources: Sequence[np.ndarray]) -> bool:
        """See `OverlayMarks.needs_plain`: the fusion of equal images is the image."""
        return any(image is not sources[0] for image in sources)

    def fusions(self, request: Request, sources: Images) -> tuple[MarkingFusion, ...]:
        """See `OverlayMarks.fusions`: first classes that are marked alone, then all at once."""
        del request
        asked = (*self._alone, Request("segment"))
        prompts = [requests_prompt((one,), len(sources)) for one in asked]
        found = [MarkingFusion(prompt) for prompt in prompts]
        if 0 < self._side < min(sources[0].shape[:2]):
            found.append(MarkingFusion(prompts[-1], self._side))
        return tuple(found)

    def shown(self, fusion: MarkingFusion, sources: Images) -> Images:
        """See `OverlayMarks.shown`."""
        if not fusion.side:
            return sources
        kept = self._reduced
        if kept is None or [*map(id, kept[0])] != [*map(id, sources)]:
            self._reduced = kept = sources, [_reduced(one, fusion.side) for one in sources]
        return kept[1]

    def draws(self, request: Request | None) -> bool:
        """See `OverlayMarks.draws`."""
        return request is not None

    def find(self, request: Request, marked: Images, plain: np.ndarray) -> np.ndarray:
        """See `OverlayMarks.find`."""
        return np.isin(self._labels(marked, plain), _numbers(request))

    def draw(
        self, image: np.ndarray, request: Request, marked: Images, plain: np.ndarray
    ) -> np.ndarray:
        """See `OverlayMarks.draw`."""
        return smooth_overlay(image, self._labels(marked, plain), _numbers(request))

    def _labels(self, marked: Images, plain: np.ndarray) -> np.ndarray:
        used = (*marked, plain)
        kept = self._labelled
        if kept is None or [*map(id, kept[0])] != [*map(id, used)]:
            images = [with_depth(image, 8) for image in marked]
            numbers = [CLASSES.index(name) for one in self._alone for name in one.classes]
            alone = dict(zip(numbers, images, strict=False))
            labels = class_labels(images[len(numbers) :], with_depth(plain, 8), alone)
            self._labelled = kept = used, labels
        return kept[1]


def make_marks(sampling: SamplingConfig) -> OverlayMarks:
    """Returns how classes are marked with these settings."""
    if not sampling.class_map:
        return OverlayMarks()
    return MapMarks(sampling.marked_alone, sampling.class_map_side)


def photographs(sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Returns the sources with a photograph in the place of infrared images beside colour ones.

    Models learn classes from photographs.  The infrared image is replaced by the first colour one;
    `sources` itself is returned if all are grey or none is.
    """
    coloured = [image for image in sources if not is_grey(image)]
    if len(coloured) in (0, len(sources)):
        return sources
    return [coloured[0] if is_grey(image) else image for image in sources]


def daylight(sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Returns photographs of a night scene brightened and without the tint of lamps.

    Models learn classes from scenes in daylight.  Returns `sources` if one of them is grey, or not
    dark.
    """
    if any(is_grey(image) or not _is_dark(image) for image in sources):
        return sources
    changed = {id(image): _brightened(image) for image in sources}
    return [changed[id(image)] for image in sources]


def _brightened(image: np.ndarray) -> np.ndarray:
    bright = balance(expose(with_depth(image, 8).astype(np.float32), _STREET_LUMA))
    return with_depth(np.rint(np.clip(bright, 0, 255)).astype(np.uint8), 8 * image.itemsize)


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / min(image.shape[:2])
    height, width = (round(length * scale) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _is_dark(image: np.ndarray) -> bool:
    return float(np.mean(with_depth(image, 8) @ LUMA_WEIGHTS)) < _DARK


def moved_overlay(image: np.ndarray, marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Moves the overlay of a marked fusion to an image that other requests have changed.

    The overlay is `marked = (1 - opacity) plain + opacity colour`, so the moved one is
    `marked + (1 - opacity) (image - plain)`.  What the model changed only a little is no overlay.

    Args:
      image: the fused image with other requests, uint8 or uint16 (H, W, 3).
      marked: the fusion with the overlay, of the same type.
      plain: the fusion without requests, of the same type.
    """
    low, high = (level * np.float32(np.iinfo(image.dtype).max / 255) for level in _MARKED)
    change = marked.astype(np.float32) - plain
    covered = np.clip((np.abs(change).max(axis=-1, keepdims=True) - low) / (high - low), 0, 1)
    moved = image + covered * (change - OPACITY * (image.astype(np.float32) - plain))
    return np.clip(np.rint(moved), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def _numbers(request: Request) -> list[int]:
    """Returns the places in `CLASSES`, which are those in the palette, of a request's classes."""
    return [CLASSES.index(name) for name in request.classes or CLASSES]
