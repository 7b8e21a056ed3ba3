"""Fusing images in memory: stacks and prompts in, fused images of the same size out."""

import collections
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.ahead import one_ahead
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import Canvas, check_same_size, fit_canvas, from_pixels, to_pixels
from ditfuse_jax.model import Condition
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.space import LatentSpace
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.prompts import (
    EncodedPrompt,
    TextSlots,
    encode_prompt,
    image_only_prompt,
    load_tokenizer,
)
from ditfuse_jax.prompts.fingerprint import check_tokenizer
from ditfuse_jax.sample.chroma import with_asked_chroma
from ditfuse_jax.sample.compose import compose
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.marking import make_marks
from ditfuse_jax.sample.noise import standard_normal
from ditfuse_jax.sample.program_cache import free_compiled_programs
from ditfuse_jax.sample.refinement import refined
from ditfuse_jax.sample.sampler import make_codec, make_sampler, prepare_sampler
from ditfuse_jax.sample.trained import TrainedModel, for_sampling

# Sizes are padded to a multiple of this, so that a folder of mixed sizes needs few programs.
_BUCKET = 32


class StackFuser:
    """A model with sampling settings.

    The sampler is compiled once per image size, or once per size of tiles for all images that are
    cut into tiles.

    With a partitioner the devices of its mesh share every batch; all processes make the same calls
    and get the same images.
    """

    def __init__(
        self,
        trained: TrainedModel,
        sampling: SamplingConfig | None = None,
        partitioner: Partitioner | None = None,
    ):
        """Creates a fuser.

        Args:
          trained: the model.
          sampling: how to sample; the model's own settings by default.
          partitioner: of the mesh on which the parameters are.

        Raises:
          UserError: the settings or the tokenizer do not fit the model.
        """
        self.trained = trained
        self.sampling = sampling = sampling or trained.sampling
        self._partitioner = partitioner
        # Of a sequence; see `SequenceFuser`.
        self.reuse: EncodingReuse | None = None
        self.ahead = False  # whether a batch is begun before the last one is completed
        self._shape: tuple[int, ...] = ()  # of the sources of the last batch
        check_tokenizer(trained.tokenizer, None, trained.model.vocab_size, trained.name)
        sampling.check_model(trained.model)
        structure = trained.structure
        if sampling.text_slots != trained.sampling.text_slots:
            structure = for_sampling(trained.network, sampling)
        self._slots = TextSlots(*sampling.text_slots)
        self._tokenizer = load_tokenizer(trained.tokenizer)
        self._structure = structure
        self._sampler = make_sampler(structure, sampling, partitioner)

    def check(self, prompt: str, num_images: int) -> None:
        """Checks a prompt and a number of source images without computing anything.

        Raises:
          UserError: too many images, or a wrong or too long prompt.
        """
        limit = self.trained.model.max_images
        if num_images > limit:
            raise UserError(f"{num_images} images: this model takes at most {limit}")
        slots = len(self._encode(prompt, num_images).order)
        if slots > limit:
            raise UserError(f"the prompt places {slots} images: this model takes at most {limit}")

    def canvas(self, height: int, width: int) -> Canvas:
        """Returns how an image of this size is resized and padded for the model."""
        multiple = padding_multiple(self.trained.model)
        return fit_canvas(height, width, multiple=multiple, max_side=self.sampling.max_side or None)

    def computed_size(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) at which a larger image is computed; None if at its own size."""
        scaled = self.canvas(height, width).scaled
        return None if scaled == (height, width) else scaled

    def describe_limit(self, height: int, width: int, name: str) -> str | None:
        """Returns one line if an image of this size is computed smaller, and how to avoid it."""
        computed = self.computed_size(height, width)
        if computed is None:
            return None
        lifted = (
            "--max-side 0 computes it in full"
            if self.sampling.tile
            else f"--max-side {max(height, width)} computes it in full, with more memory"
        )
        return (
            f"warning: {name} is {width}x{height}, computed at {computed[1]}x{computed[0]} and"
            f" enlarged: {lifted}"
        )

    def fuse(self, inputs: Sequence[FusionInput]) -> list[np.ndarray]:
        """Returns a fused image (H, W, 3) for each input, of its sources' size and its depth."""
        results: dict[int, np.ndarray] = {}
        for done in self.fuse_iter(enumerate(inputs)):
            results.update(done)
        return [results[i] for i in range(len(inputs))]

    def fuse_iter(
        self, inputs: Iterable[tuple[int, FusionInput]]
    ) -> Iterator[dict[int, np.ndarray]]:
        """Fuses a stream of numbered inputs; yields number -> image whenever some are done.

        A batch holds inputs of equal size; only inputs whose batch is not full yet stay in memory,
        and with `ahead` those of one more batch.

        Raises:
          UserError: the sources of an input have different sizes, or see `compose`.
        """
        return compose(self._fuse_prompts, inputs, make_marks(self.sampling), self._refined)

    def _refined(self, image: np.ndarray, part: FusionInput) -> np.ndarray:
        return refined(image, part.sources, part.prompt) if self.sampling.refine else image

    def _fuse_prompts(
        self, inputs: Iterable[tuple[int, FusionInput]]
    ) -> Iterator[dict[int, np.ndarray]]:
        """Fuses by the prompts alone, whatever else the inputs ask for."""
        begun = map(self._begin, self._batches(inputs))
        for complete in one_ahead(begun) if self.ahead else begun:
            done = complete()
            del complete  # with what the sampler returned: large images leave little memory
            yield done

    def _batches(
        self, inputs: Iterable[tuple[int, FusionInput]]
    ) -> Iterator[list[tuple[int, FusionInput]]]:
        waiting: dict[tuple, list[tuple[int, FusionInput]]] = collections.defaultdict(list)
        for number, item in inputs:
            key = self.batch_key(item)
            waiting[key].append((number, item))
            if len(waiting[key]) == self.sampling.batch_size:
                group, waiting[key] = waiting[key], []
                yield group
        yield from filter(None, waiting.values())

    def batch_key(self, item: FusionInput) -> tuple:
        """Inputs with equal keys can share a batch.

        Raises:
          UserError: the sources of the input have different sizes.
        """
        check_same_size(item.sources, [f"image {i + 1}" for i in range(len(item.sources))])
        slots = len(self._encode(item.prompt, len(item.sources)).order)
        padded = self.canvas(*item.sources[0].shape[:2]).padded
        return item.group, padded, len(item.sources), slots

    def _begin(self, group: list[tuple[int, FusionInput]]) -> Callable[[], dict[int, np.ndarray]]:
        """Samples a batch; the function that is returned waits for the rest and makes images."""
        inputs = [item for _, item in group]
        # A group that is not full is filled up with copies, so that it needs no other program.
        filled = inputs + [inputs[-1]] * (self.sampling.batch_size - len(inputs))
        canvases = [self.canvas(*item.sources[0].shape[:2]) for item in filled]
        shape = (len(filled), len(inputs[0].sources), *canvases[0].padded, 3)
        if self.reuse is None or shape != self._shape:  # else few programs are new
            self._shape = shape
            free_compiled_programs()
        weights = self.sampling.guidance.weights
        shares = np.array([weights[name] for name in self.sampling.guidance.branches], np.float32)
        self._prepare_programs(filled, shape, shares)
        pixels = np.empty(shape, np.float32)
        for row, (item, canvas) in enumerate(zip(filled, canvases, strict=True)):
            for k, source in enumerate(item.sources):
                pixels[row, k] = from_pixels(canvas.apply(source))
        # All rows start from the same noise, so that an image does not depend on its batch.
        seed, space, count = self.sampling.seed, self.trained.space, len(filled)
        size = space.shape(*pixels.shape[2:4])
        noise = _rows(standard_normal(seed, size), count)
        posterior = None  # pixels are not encoded: they need no noise
        if isinstance(space, LatentSpace):
            posterior = _rows(standard_normal(seed, (pixels.shape[1], *size), 1), count)
        encode, _ = make_codec(space, self._partitioner)
        sources = encode(self.trained.autoencoder, pixels, posterior)
        del pixels, posterior  # large images leave little memory
        branches = self._branches(filled, sources)
        del sources
        kept = {}
        if self.reuse is not None:
            self.reuse.next_frame()
            kept["reuse"] = self.reuse
        out = self._sampler(self.trained.parameters, branches, noise, shares, **kept)
        return functools.partial(self._complete, group, canvases, out)

    def _prepare_programs(
        self, inputs: Sequence[FusionInput], shape: tuple[int, ...], weights: np.ndarray
    ) -> None:
        """Begins to read or compile what the sampler needs for sources (B, n, H, W, 3)."""
        if self._partitioner is not None or self.reuse is not None:
            return
        size = self.trained.space.shape(*shape[2:4])
        noise = np.broadcast_to(np.float32(0), (shape[0], *size))

        def of_no_memory(order: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.float32(0), (*order.shape, *size))

        branches = self._condition(inputs, of_no_memory)
        parameters = self.trained.parameters
        prepare_sampler(self._structure, self.sampling, parameters, branches, noise, weights)

    def _complete(
        self, group: list[tuple[int, FusionInput]], canvases: list[Canvas], out: Any
    ) -> dict[int, np.ndarray]:
        """Returns number -> fused image for what the sampler returned for a batch."""
        _, decode = make_codec(self.trained.space, self._partitioner)
        images = decode(self.trained.autoencoder, np.asarray(out))
        fused = {
            number: canvas.undo(to_pixels(image, item.output_depth))
            for (number, item), canvas, image in zip(group, canvases, images, strict=False)
        }
        if self.sampling.limit_chroma:
            for number, item in group:
                fused[number] = with_asked_chroma(fused[number], item.sources, item.prompt)
        return fused

    def _branches(self, inputs: Sequence[FusionInput], sources: np.ndarray) -> Condition:
        """Returns the condition (R, B, ...) of all branches for sources (B, n, h, w, C)."""
        return self._condition(inputs, functools.partial(_arrange, sources))

    def _condition(
        self, inputs: Sequence[FusionInput], arrange: Callable[[np.ndarray], np.ndarray]
    ) -> Condition:
        """Returns the condition (R, B, ...) of all branches.

        Args:
          inputs: the batch.
          arrange: image slots (R, B, k, h, w, C) for the numbers (R, B, k) of their sources.
        """
        prompts = [
            [self._branch(item, branch) for item in inputs]
            for branch in self.sampling.guidance.branches
        ]

        def stack(name: str) -> Any:
            return np.stack([[getattr(prompt, name) for prompt in row] for row in prompts])

        # Image slot k of a branch shows the source that its prompt places there.
        images: Any = arrange(stack("order"))
        return Condition(stack("tokens"), stack("valid"), images, stack("image_valid"))

    def _branch(self, item: FusionInput, branch: str) -> EncodedPrompt:
        """Encodes the prompt of a guidance branch, with as many image slots as the instruction."""
        count = len(item.sources)
        instructed = self._encode(item.prompt, count)
        if branch == "cond":
            return instructed
        text = image_only_prompt(count) if branch == "img" else self.sampling.negative_prompt
        return self._encode(text, count, len(instructed.order))

    def _encode(self, prompt: str, count: int, num_slots: int | None = None) -> EncodedPrompt:
        return encode_prompt(self._tokenizer, prompt, count, self._slots, num_slots)


def padding_multiple(model: ModelConfig) -> int:
    """Returns the number of pixels to multiples of which the sides of images are padded."""
    return int(np.lcm(_BUCKET, model.size_multiple))


def with_size_warning(
    inputs: Iterable[tuple[int, FusionInput]], fuser: StackFuser, name: str, quiet: bool = False
) -> Iterator[tuple[int, FusionInput]]:
    """Passes inputs on; the first that is computed smaller than it is gives one warning line.

    `name`: what the line calls the image, if it is the first one.
    """
    told = quiet
    for place, (number, item) in enumerate(inputs):
        height, width = item.sources[0].shape[:2]
        which = name if place == 0 else f"image {place + 1} of the job"
        line = fuser.describe_limit(height, width, which)
        if line and not told:
            tqdm.tqdm.write(line, file=sys.stderr)
            told = True
        yield number, item


def _rows(row: np.ndarray, count: int) -> np.ndarray:
    """Returns a batch of `count` equal rows, which share their memory."""
    return np.broadcast_to(row, (count, *row.shape))


def _arrange(sources: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Puts sources (B, n, h, w, C) into the image slots of each branch, (R, B, k, h, w, C)."""
    if order.shape[-1] == sources.shape[1] and (order == np.arange(order.shape[-1])).all():
        return np.broadcast_to(sources, (len(order), *sources.shape))  # without a copy
    rows = np.arange(sources.shape[0])[None, :, None]
    return sources[rows, order]
