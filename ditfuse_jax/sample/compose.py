"""Images that need several fusions of one scene, or operations on the fused one.

A request that is limited to a region needs the fusion without it too; classes that a request is
limited to are marked by the model, in the sources that look like photographs (`marking.py`).  All
are fused from the same noise.
"""

import itertools
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tqdm

from ditfuse_jax.images import with_depth
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.applied_requests import (
    apply_requests,
    request_warnings,
    restore_sources,
)
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput, marks_classes
from ditfuse_jax.sample.marking import MarkingFusion, OverlayMarks, moved_overlay
from ditfuse_jax.sample.region import check_region_size, region_weights

Numbered = Iterable[tuple[int, FusionInput]]
Fuse = Callable[[Numbered], Iterator[dict[int, np.ndarray]]]
# (fused image, what it was fused from) -> what counts as that fusion.
Refine = Callable[[np.ndarray, FusionInput], np.ndarray]
_Key = tuple[Hashable, str]  # of a fusion: the scene and the prompt

# The parts of an image: the fusion that is asked for, the one without a request, and the one of the
# sources in which classes are marked; those that mark them are known by what they are.
_ASKED, _PLAIN, _UNMARKED = "asked", "plain", "unmarked"
_Part = str | MarkingFusion
_Parts = dict[_Part, FusionInput]
_MARKED = "mark"  # the group of the fusions that mark classes


def compose(
    fuse: Fuse,
    inputs: Numbered,
    marks: OverlayMarks | None = None,
    refine: Refine = lambda image, part: image,
) -> Iterator[dict[int, np.ndarray]]:
    """Fuses a stream of numbered inputs, each by as many fusions as it needs.

    Inputs that follow each other and share sources (the same arrays) share their fusions too.

    Args:
      fuse: fuses inputs by their prompts alone, as a stream of number -> image.
      inputs: fused in order; only those whose fusions are not complete stay in memory.
      marks: how classes are marked; by default each by the model's own overlay.
      refine: for the fusions that become the image; those in which classes are found are compared
        with each other as the model gives them.

    Raises:
      UserError: a region is of another size than its sources, or there is no source of a role.
    """
    waiting: dict[int, tuple[FusionInput, _Parts]] = {}
    running: dict[int, FusionInput] = {}  # the fusions that are not done yet
    # With the parts, whose sources stay alive: a scene is known by the identity of its arrays.
    images: dict[_Key, tuple[FusionInput, np.ndarray]] = {}
    refined: dict[_Key, np.ndarray] = {}
    latest: _Parts = {}
    numbers = itertools.count()
    warned: set[str] = set()
    marks = marks or OverlayMarks()

    def fusions() -> Iterator[tuple[int, FusionInput]]:
        nonlocal latest
        for number, item in inputs:
            _check(item, warned)
            latest = _parts(item, marks)
            waiting[number] = item, latest
            for part in latest.values():
                key = _key(part)
                if key in images or key in map(_key, running.values()):
                    continue
                place = next(numbers)
                running[place] = part
                yield place, part

    def refined_image(image: np.ndarray, part: FusionInput) -> np.ndarray:
        key = _key(part)
        if key not in refined:
            refined[key] = refine(image, part)
        return refined[key]

    def complete() -> Iterator[dict[int, np.ndarray]]:
        for number, (item, parts) in list(waiting.items()):
            if all(_key(part) in images for part in parts.values()):
                own = {name: images[_key(part)][1] for name, part in parts.items()}
                _refine(own, parts, refined_image)
                for part in parts.values():
                    if part.group == _MARKED:  # without a plain fusion: see `_parts`
                        own.setdefault(_UNMARKED, with_depth(part.sources[0], part.output_depth))
                del waiting[number]
                yield {number: _finish(item, own, marks)}
        alive = [*(parts for _, parts in waiting.values()), latest]
        needed = {_key(part) for parts in alive for part in parts.values()}
        for key in [key for key in images if key not in needed]:
            del images[key]
            refined.pop(key, None)

    for finished in fuse(fusions()):
        for place, image in finished.items():
            part = running.pop(place)
            images[_key(part)] = part, image
        yield from complete()
    yield from complete()  # those that needed no fusion of their own


def _refine(own: dict[_Part, np.ndarray], parts: _Parts, refine: Refine) -> None:
    """Refines the fusions that become the image.

    A fusion whose request would be undone is not refined by itself: in a region it gets what the
    refinement changes of the fusion around it.
    """
    asked, plain = own[_ASKED], own.get(_PLAIN)
    own[_ASKED] = refine(asked, parts[_ASKED])
    if plain is None:
        return
    own[_PLAIN] = refine(plain, parts[_PLAIN])
    if own[_ASKED] is asked and own[_PLAIN] is not plain:
        moved = asked.astype(np.int32) + own[_PLAIN] - plain
        own[_ASKED] = np.clip(moved, 0, np.iinfo(asked.dtype).max).astype(asked.dtype)


def _key(part: FusionInput) -> _Key:
    return (tuple(map(id, part.sources)), part.output_depth), part.prompt


def _parts(item: FusionInput, marks: OverlayMarks) -> _Parts:
    """Returns the fusions that an input is made from, by the names by which `_finish` knows them.

    Each has a group of its own, so that plain fusions form the batches that they would form alone.
    """
    sources = restore_sources(item.sources, item.applied, item.roles)

    def part(prompt: str, group: str, shown: Sequence[np.ndarray] = sources) -> FusionInput:
        return FusionInput(shown, prompt, item.output_depth, group=group)

    drawn = _drawn_overlay(item, marks)
    wanted = [*_limiting(item), *(one for one in item.applied if one.axis == "segment")]
    if isinstance(item, RegionInput) and item.mark is not None:
        wanted.append(item.mark)
    marking = {one for request in wanted for one in marks.fusions(request, sources)}
    marking.update(drawn)
    if not marking and not isinstance(item, RegionInput):
        return {_ASKED: part(item.prompt, item.group)}
    parts: _Parts = {_ASKED: part(item.plain if drawn else item.prompt, _ASKED)}
    if isinstance(item, RegionInput):
        parts[_PLAIN] = part(item.plain, _PLAIN)
    if marking:
        shown = marks.sources(sources)
        if marks.needs_plain(shown):
            parts[_UNMARKED] = part(item.plain, _PLAIN, shown)
        for one in sorted(marking, key=lambda one: (one.side, one.prompt)):
            parts[one] = part(one.prompt, _MARKED, marks.shown(one, shown))
    return parts


def _drawn_overlay(item: FusionInput, marks: OverlayMarks) -> tuple[MarkingFusion, ...]:
    """Returns the fusions of the overlay that is drawn over the plain fusion; none without one.

    The fusion of the input's own prompt shows the overlay otherwise.
    """
    if not item.plain or not marks_classes(item.prompt):
        return ()
    if item.segment is not None and marks.draws(item.segment):
        return marks.fusions(item.segment, item.sources)
    # The model marks classes in other sources than these.
    moved = marks.sources(item.sources) is not item.sources
    return (MarkingFusion(item.prompt),) if moved else ()


def _limiting(item: FusionInput) -> list[Request]:
    """Returns requests to mark each of the classes that applied requests are limited to."""
    names = [name for one in item.applied if one.axis != "segment" for name in one.classes]
    return [Request("segment", classes=(name,)) for name in dict.fromkeys(names)]


def _check(item: FusionInput, warned: set[str]) -> None:
    """Checks an input; `warned` holds the warnings that were given and need no repetition."""
    for warning in request_warnings(item.applied, item.sources, item.roles):
        if warning not in warned:
            warned.add(warning)
            _warn(f"{item.name}: {warning}")
    if isinstance(item, RegionInput):
        check_region_size(item)


def _warn(line: str) -> None:
    tqdm.tqdm.write(f"warning: {line}", file=sys.stderr)


def _finish(
    item: FusionInput, images: Mapping[_Part, np.ndarray], marks: OverlayMarks
) -> np.ndarray:
    """Returns the image that an input asks for, from the images of its parts."""
    image = images[_ASKED]
    drawn = _drawn_overlay(item, marks)
    marked = [images[fusion] for fusion in drawn]
    if drawn and item.segment is not None and marks.draws(item.segment):
        image = marks.draw(image, item.segment, marked, images[_UNMARKED])
    elif drawn:
        image = moved_overlay(image, marked[0], images[_UNMARKED])
    if item.applied:
        image = _applied(item, image, images, marks)
    if not isinstance(item, RegionInput):
        return image.copy() if image is images[_ASKED] else image  # another input may share it
    plain, weights = images[_PLAIN], item.weights
    if item.mark is not None:
        marked = _found(item.mark, item, images, marks)
        if not marked.any():
            _warn(f"{item.name} was not found: the request changes nothing")
            return plain.copy()
        weights = region_weights(marked.astype(np.uint8) * 255, item.feather)
    assert weights is not None
    moved = (image.astype(np.float32) - plain) * weights[..., None]
    return (plain + np.rint(moved)).astype(plain.dtype)


def _applied(
    item: FusionInput, image: np.ndarray, images: Mapping[_Part, np.ndarray], marks: OverlayMarks
) -> np.ndarray:
    found = {}
    for request in _limiting(item):
        (name,) = request.classes
        found[name] = _found(request, item, images, marks)
        if not found[name].any():
            _warn(f"{name} was not found in {item.name}: what is asked for it changes nothing")
    regions = {
        request.classes: np.logical_or.reduce([found[name] for name in request.classes])
        for request in item.applied
        if request.axis != "segment" and request.classes
    }
    changed = apply_requests(image, item.sources, item.applied, regions, item.roles)
    for request in item.applied:
        if request.axis == "segment":
            marked = [images[fusion] for fusion in marks.fusions(request, item.sources)]
            changed = marks.draw(changed, request, marked, images[_UNMARKED])
    return changed


def _found(
    request: Request, item: FusionInput, images: Mapping[_Part, np.ndarray], marks: OverlayMarks
) -> np.ndarray:
    """Returns where the model marks the classes of a request, bool (H, W)."""
    marked = [images[fusion] for fusion in marks.fusions(request, item.sources)]
    return marks.find(request, marked, images[_UNMARKED])
