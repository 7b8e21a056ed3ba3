"""Images that need several fusions of one scene, or operations on the fused one.

A request that is limited to a region needs the fusion without it too; classes that a request is
limited to are marked by the model.  All are fused from the same noise.
"""

import collections
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tqdm

from ditfuse_jax.images import with_depth
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.applied_requests import apply_requests, overlaid, role_warnings
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput
from ditfuse_jax.sample.region import check_region_size, region_weights

Numbered = Iterable[tuple[int, FusionInput]]
Fuse = Callable[[Numbered], Iterator[dict[int, np.ndarray]]]


def compose(fuse: Fuse, inputs: Numbered) -> Iterator[dict[int, np.ndarray]]:
    """Fuses a stream of numbered inputs, each by as many fusions as it needs.

    Args:
      fuse: fuses inputs by their prompts alone, as a stream of number -> image.
      inputs: fused in order; only those whose fusions are not complete stay in memory.

    Raises:
      UserError: a region is of another size than its sources, or there is no source of a role.
    """
    waiting: dict[int, FusionInput] = {}
    done: dict[int, dict[str, np.ndarray]] = collections.defaultdict(dict)
    places: dict[int, tuple[int, str]] = {}  # of the parts in the results
    numbers = itertools.count()
    warned: set[str] = set()

    def parts() -> Iterator[tuple[int, FusionInput]]:
        for number, item in inputs:
            _check(item, warned)
            waiting[number] = item
            for prompt, group in _prompts(item).items():
                place = next(numbers)
                places[place] = number, prompt
                # Plain fusions form the batches that they would form alone: see `group`.
                yield place, FusionInput(item.sources, prompt, item.depth, group=group)

    for finished in fuse(parts()):
        complete = {}
        for place, image in finished.items():
            number, prompt = places.pop(place)
            item, images = waiting[number], done[number]
            images[prompt] = image
            if len(images) == len(_prompts(item)):
                complete[number] = _finish(item, images)
                del waiting[number], done[number]
        if complete:
            yield complete


def _prompts(item: FusionInput) -> dict[str, str]:
    """Returns the prompts that an input is made from, each with its group of batches."""
    prompts = {item.prompt: item.group}
    marks = list(_marks(item).values())
    marks += [_overlay_prompt(one, item) for one in item.applied if one.axis == "segment"]
    if isinstance(item, RegionInput) and item.weights is None:
        marks.append(item.mark)
    if isinstance(item, RegionInput) or marks:
        prompts |= {item.prompt: "asked", item.plain: "plain"}
    return prompts | {mark: "mark" for mark in marks if mark not in prompts}


def _marks(item: FusionInput) -> dict[str, str]:
    """Returns the classes that applied requests are limited to, and the prompts that mark them."""
    names = [name for one in item.applied if one.axis != "segment" for name in one.classes]
    marked = (Request("segment", classes=(name,)) for name in names)
    return {one.classes[0]: _overlay_prompt(one, item) for one in marked}


def _overlay_prompt(request: Request, item: FusionInput) -> str:
    return requests_prompt((request,), len(item.sources))


def _check(item: FusionInput, warned: set[str]) -> None:
    """Checks an input; `warned` holds the warnings that were given and need no repetition."""
    for warning in role_warnings(item.applied, item.sources):
        if warning not in warned:
            warned.add(warning)
            _warn(f"{item.name}: {warning}")
    if isinstance(item, RegionInput):
        check_region_size(item)


def _warn(line: str) -> None:
    tqdm.tqdm.write(f"warning: {line}", file=sys.stderr)


def _finish(item: FusionInput, images: Mapping[str, np.ndarray]) -> np.ndarray:
    image = images[item.prompt]
    if item.applied:
        image = _applied(item, image, images)
    if not isinstance(item, RegionInput):
        return image
    plain, weights = images[item.plain], item.weights
    if weights is None:
        marked = _marked(images[item.mark], plain)
        if not marked.any():
            _warn(f"{item.name} was not found: the request changes nothing")
            return plain
        weights = region_weights(marked.astype(np.uint8) * 255, item.feather)
    moved = (image.astype(np.float32) - plain) * weights[..., None]
    return (plain + np.rint(moved)).astype(plain.dtype)


def _applied(item: FusionInput, image: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
    found = {}
    for name, prompt in _marks(item).items():
        found[name] = _marked(images[prompt], images[item.plain])
        if not found[name].any():
            _warn(f"{name} was not found in {item.name}: what is asked for it changes nothing")
    regions = {}
    for request in item.applied:
        if request.axis != "segment" and request.classes:
            masks = [found[name] for name in request.classes]
            regions[request.classes] = np.logical_or.reduce(masks)
    changes = [one for one in item.applied if one.axis != "segment"]
    changed = apply_requests(image, item.sources, changes, regions)
    for request in item.applied:
        if request.axis == "segment":
            marked = images[_overlay_prompt(request, item)]
            changed = overlaid(changed, marked, images[item.plain])
    return changed


def _marked(image: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Returns where the model marked a class, bool (H, W)."""
    from ditfuse_jax.degrade.overlay import overlay_mask

    return overlay_mask(with_depth(image, 8), with_depth(plain, 8))
