"""Fuses frames that come one by one, with what neighbouring frames have in common."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.sample.fixed_roles import with_frame
from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fusion_input import FusionInput, marks_classes
from ditfuse_jax.sample.prepared import Options, Prepared, Preparer, load_stack
from ditfuse_jax.sample.refinement import check_refine
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.source_roles import FoundRoles
from ditfuse_jax.sample.stack_fuser import StackFuser


def stream(
    frames: Iterable[Sequence[Any]],
    prompt: str | None,
    options: Options,
    sampler: StackFuser,
    settings: SequenceSettings,
    given: Mapping[str, Any],
) -> Iterator[Fused]:
    """Yields the fused frames in their order; see `Fuser.stream`.

    Where frames change their size, what is kept of earlier frames begins anew.  `given` are the
    sampling settings of the call, which `sampler` has.
    """
    prepared = _prepare(frames, prompt, options, sampler)
    first = next(prepared, None)
    if first is None:
        return
    check_refine(given, sampler.sampling, [first.instruction], options.region is not None)
    plain = options.region is None and not (
        first.instruction.requests or marks_classes(first.instruction.prompt)
    )
    prompts = [first.instruction.prompt] if plain else []
    count = len(first.input.sources)
    everything = itertools.chain([first], prepared)
    for _, group in itertools.groupby(everything, key=lambda item: item.size):
        fuser = SequenceFuser(sampler.trained, sampler.sampling, prompts, count, settings)
        yield from _fuse(fuser, group)


def _prepare(
    frames: Iterable[Sequence[Any]], prompt: str | None, options: Options, sampler: StackFuser
) -> Iterator[Prepared]:
    """Reads and checks frames; the first one decides ranges, warps and number of sources."""
    prepare, count = None, 0
    roles: FoundRoles = {}
    for number, images in enumerate(frames, start=1):
        stack = load_stack(images, f"frame {number}, ")
        if prepare is None:
            prepare, count = Preparer(sampler, options, [stack], one_warp=True), len(stack)
        if len(stack) != count:
            raise UserError(f"frame {number} has {len(stack)} images, the first one {count}")
        item = prepare(stack, prompt)
        roles = with_frame(roles, item.input.applied, item.input.sources)
        yield _with_roles(item, roles)


def _with_roles(item: Prepared, roles: FoundRoles) -> Prepared:
    """Returns a frame whose requests mean the sources that they mean in the frames before."""
    if not roles:
        return item
    changed = dataclasses.replace(item.input, roles=roles)
    metadata = item.metadata | {"source roles": changed.source_roles}
    return dataclasses.replace(item, input=changed, metadata=metadata)


def _fuse(fuser: SequenceFuser, group: Iterator[Prepared]) -> Iterator[Fused]:
    waiting: dict[int, Prepared] = {}

    def inputs() -> Iterator[tuple[int, FusionInput]]:
        for number, item in enumerate(group):
            waiting[number] = item
            yield number, item.input

    for number, image in fuser(inputs()):
        yield waiting.pop(number).fused(image)
