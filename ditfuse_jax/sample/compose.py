"""Images that need several fusions of one scene, or operations on the fused one.

A request that is limited to a region needs the fusion without it too; classes that a request is
limited to are marked by the model, in the sources that look like photographs.  All are fused from
the same noise.
"""

import itertools
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tqdm

from ditfuse_jax.degrade.overlay import overlay_mask
from ditfuse_jax.images import with_depth
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.applied_requests import (
    apply_requests,
    marking_sources,
    overlaid,
    request_warnings,
    restore_sources,
)
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput, marks_classes
from ditfuse_jax.sample.region import check_region_size, region_weights

Numbered = Iterable[tuple[int, FusionInput]]
Fuse = Callable[[Numbered], Iterator[dict[int, np.ndarray]]]
_Key = tuple[Hashable, str]  # of a fusion: the scene and the prompt

# The parts of an image: the fusion that is asked for, the one without a request, and the one of the
# sources in which classes are marked.
_ASKED, _PLAIN, _UNMARKED = "asked", "plain", "unmarked"


def compose(fuse: Fuse, inputs: Numbered) -> Iterator[dict[int, np.ndarray]]:
    """Fuses a stream of numbered inputs, each by as many fusions as it needs.

    Inputs that follow each other and share sources (the same arrays) share their fusions too.

    Args:
      fuse: fuses inputs by their prompts alone, as a stream of number -> image.
      inputs: fused in order; only those whose fusions are not complete stay in memory.

    Raises:
      UserError: a region is of another size than its sources, or there is no source of a role.
    """
    waiting: dict[int, tuple[FusionInput, dict[str, FusionInput]]] = {}
    running: dict[int, FusionInput] = {}  # the fusions that are not done yet
    # With the parts, whose sources stay alive: a scene is known by the identity of its arrays.
    images: dict[_Key, tuple[FusionInput, np.ndarray]] = {}
    latest: dict[str, FusionInput] = {}
    numbers = itertools.count()
    warned: set[str] = set()

    def fusions() -> Iterator[tuple[int, FusionInput]]:
        nonlocal latest
        for number, item in inputs:
            _check(item, warned)
            latest = _parts(item)
            waiting[number] = item, latest
            for part in latest.values():
                key = _key(part)
                if key in images or key in map(_key, running.values()):
                    continue
                place = next(numbers)
                running[place] = part
                yield place, part

    def complete() -> Iterator[dict[int, np.ndarray]]:
        for number, (item, parts) in list(waiting.items()):
            if all(_key(part) in images for part in parts.values()):
                own = {name: images[_key(part)][1] for name, part in parts.items()}
                del waiting[number]
                yield {number: _finish(item, own)}
        alive = [*(parts for _, parts in waiting.values()), latest]
        needed = {_key(part) for parts in alive for part in parts.values()}
        for key in [key for key in images if key not in needed]:
            del images[key]

    for finished in fuse(fusions()):
        for place, image in finished.items():
            part = running.pop(place)
            images[_key(part)] = part, image
        yield from complete()
    yield from complete()  # those that needed no fusion of their own


def _key(part: FusionInput) -> _Key:
    return (tuple(map(id, part.sources)), part.output_depth), part.prompt


def _parts(item: FusionInput) -> dict[str, FusionInput]:
    """Returns the fusions that an input is made from, by the names by which `_finish` knows them.

    Each has a group of its own, so that plain fusions form the batches that they would form alone.
    """
    sources = restore_sources(item.sources, item.applied)
    marking = marking_sources(sources)

    def part(prompt: str, group: str, shown: Sequence[np.ndarray] = sources) -> FusionInput:
        return FusionInput(shown, prompt, item.output_depth, group=group)

    marks = {_mark_prompt(name, item) for name in _limiting_classes(item)}
    marks |= {_overlay_prompt(one, item) for one in item.applied if one.axis == "segment"}
    if isinstance(item, RegionInput) and item.weights is None:
        marks.add(item.mark)
    asked = item.prompt
    if _is_moved_overlay(item):
        marks.add(item.prompt)
        asked = item.plain
    if not marks and not isinstance(item, RegionInput):
        return {_ASKED: part(asked, item.group)}
    parts = {_ASKED: part(asked, _ASKED)}
    if isinstance(item, RegionInput):
        parts[_PLAIN] = part(item.plain, _PLAIN)
    if marks:
        parts[_UNMARKED] = part(item.plain, _PLAIN, marking)
        parts |= {prompt: part(prompt, "mark", marking) for prompt in sorted(marks)}
    return parts


def _is_moved_overlay(item: FusionInput) -> bool:
    """Whether a model that is asked to mark classes marks them in other sources than these."""
    if not item.plain or not marks_classes(item.prompt):
        return False
    return marking_sources(item.sources) is not item.sources


def _limiting_classes(item: FusionInput) -> list[str]:
    """Returns the classes that applied requests are limited to."""
    names = [name for one in item.applied if one.axis != "segment" for name in one.classes]
    return list(dict.fromkeys(names))


def _mark_prompt(name: str, item: FusionInput) -> str:
    return _overlay_prompt(Request("segment", classes=(name,)), item)


def _overlay_prompt(request: Request, item: FusionInput) -> str:
    return requests_prompt((request,), len(item.sources))


def _check(item: FusionInput, warned: set[str]) -> None:
    """Checks an input; `warned` holds the warnings that were given and need no repetition."""
    for warning in request_warnings(item.applied, item.sources):
        if warning not in warned:
            warned.add(warning)
            _warn(f"{item.name}: {warning}")
    if isinstance(item, RegionInput):
        check_region_size(item)


def _warn(line: str) -> None:
    tqdm.tqdm.write(f"warning: {line}", file=sys.stderr)


def _finish(item: FusionInput, images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the image that an input asks for, from the images of its parts."""
    image = images[_ASKED]
    if _is_moved_overlay(item):
        image = overlaid(image, images[item.prompt], images[_UNMARKED])
    if item.applied:
        image = _applied(item, image, images)
    if not isinstance(item, RegionInput):
        return image.copy() if image is images[_ASKED] else image  # another input may share it
    plain, weights = images[_PLAIN], item.weights
    if weights is None:
        marked = _marked(images[item.mark], images[_UNMARKED])
        if not marked.any():
            _warn(f"{item.name} was not found: the request changes nothing")
            return plain.copy()
        weights = region_weights(marked.astype(np.uint8) * 255, item.feather)
    moved = (image.astype(np.float32) - plain) * weights[..., None]
    return (plain + np.rint(moved)).astype(plain.dtype)


def _applied(item: FusionInput, image: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
    found = {}
    for name in _limiting_classes(item):
        found[name] = _marked(images[_mark_prompt(name, item)], images[_UNMARKED])
        if not found[name].any():
            _warn(f"{name} was not found in {item.name}: what is asked for it changes nothing")
    regions = {
        request.classes: np.logical_or.reduce([found[name] for name in request.classes])
        for request in item.applied
        if request.axis != "segment" and request.classes
    }
    changed = apply_requests(image, item.sources, item.applied, regions)
    for request in item.applied:
        if request.axis == "segment":
            marked = images[_overlay_prompt(request, item)]
            changed = overlaid(changed, marked, images[_UNMARKED])
    return changed


def _marked(image: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Returns where the model marked a class, bool (H, W)."""
    return overlay_mask(with_depth(image, 8), with_depth(plain, 8))
