"""Fusing images in memory: stacks and prompts in, fused images of the same size out."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import Canvas, check_same_size, fit_canvas, from_uint8, to_uint8
from ditfuse_jax.model import Condition
from ditfuse_jax.parallel import Sharder, distribute, gather
from ditfuse_jax.prompts import (
    EncodedPrompt,
    TextSlots,
    encode_prompt,
    image_only_prompt,
    load_tokenizer,
)
from ditfuse_jax.sample.programs import make_room_for_programs
from ditfuse_jax.sample.sampler import make_sampler, make_transfer
from ditfuse_jax.sample.trained import TrainedModel
from ditfuse_jax.train.settings import check_tokenizer
from ditfuse_jax.train.state import make_graph

# Sizes are padded to a multiple of this, so that a folder of mixed sizes needs few programs.
_BUCKET = 32

Stack = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to make: `sources` uint8 (H, W, 3) each, and a full prompt with placeholders."""

    sources: Stack
    prompt: str


class Fuser:
    """A model with sampling settings.

    Programs are compiled once per size; of images in tiles once for all sizes.

    With a sharder the model lies on its mesh, whose devices share every batch: all processes make
    the same calls and get the same images.
    """

    def __init__(
        self,
        trained: TrainedModel,
        sampling: SamplingConfig | None = None,
        sharder: Sharder | None = None,
    ):
        """Creates a fuser.

        Args:
          trained: the model.
          sampling: how to sample; the model's own settings by default.
          sharder: of the mesh on which the parameters lie.

        Raises:
          UserError: the settings or the tokenizer do not fit the model.
        """
        self.trained = trained
        self.sampling = sampling = sampling or trained.recipe.sampling
        self._sharder = sharder
        recipe = trained.recipe
        check_tokenizer(recipe)
        sampling.check_model(recipe.model)
        graph = trained.graph
        if sampling.text_slots != recipe.sampling.text_slots:
            model = dataclasses.replace(recipe.model, text_slots=sampling.text_slots)
            graph, _ = make_graph(dataclasses.replace(recipe.network, model=model))
        self._slots = TextSlots(*sampling.text_slots)
        self._tokenizer = load_tokenizer(recipe.data.encoder.tokenizer)
        self._sampler = make_sampler(graph, sampling, sharder)

    def check(self, prompt: str, num_images: int) -> None:
        """Refuses what could not be fused, before any work.

        Raises:
          UserError: too many images, a wrong or too long prompt.
        """
        limit = self.trained.recipe.model.max_images
        if num_images > limit:
            raise UserError(f"{num_images} images: this model takes at most {limit}")
        slots = len(self._encode(prompt, num_images).order)
        if slots > limit:
            raise UserError(f"the prompt places {slots} images: this model takes at most {limit}")

    def canvas(self, height: int, width: int) -> Canvas:
        """How an image of this size is computed."""
        multiple = int(np.lcm(_BUCKET, self.trained.recipe.model.size_multiple))
        return fit_canvas(height, width, multiple=multiple, max_side=self.sampling.max_side)

    def fuse(self, jobs: Sequence[Job]) -> list[np.ndarray]:
        """Fuses all jobs; outputs uint8 (H, W, 3) in their order, each of its input's size."""
        results: dict[int, np.ndarray] = {}
        for done in self.fuse_iter(enumerate(jobs)):
            results.update(done)
        return [results[i] for i in range(len(jobs))]

    def fuse_iter(self, jobs: Iterable[tuple[int, Job]]) -> Iterator[dict[int, np.ndarray]]:
        """Fuses a stream of numbered jobs, batching those of equal size; yields as batches finish.

        Only jobs waiting for their batch to fill are held in memory.
        """
        waiting: dict[tuple, list[tuple[int, Job]]] = collections.defaultdict(list)
        for number, job in jobs:
            group = waiting[self._key(job)]
            group.append((number, job))
            if len(group) == self.sampling.batch_size:
                yield self._run(group)
                group.clear()
        for group in waiting.values():
            if group:
                yield self._run(group)

    def _key(self, job: Job) -> tuple:
        check_same_size(job.sources, [f"image {i + 1}" for i in range(len(job.sources))])
        slots = len(self._encode(job.prompt, len(job.sources)).order)
        return self.canvas(*job.sources[0].shape[:2]).padded, len(job.sources), slots

    def _run(self, group: list[tuple[int, Job]]) -> dict[int, np.ndarray]:
        make_room_for_programs()
        jobs = [job for _, job in group]
        # A group that is not full is filled up with copies: the same program serves it.
        filled = jobs + [jobs[-1]] * (self.sampling.batch_size - len(jobs))
        canvases = [self.canvas(*job.sources[0].shape[:2]) for job in filled]
        pixels = np.stack(
            [
                np.stack([from_uint8(canvas.apply(source)) for source in job.sources])
                for job, canvas in zip(filled, canvases, strict=True)
            ]
        )
        # Every row starts from the same noise: an image does not depend on its place in a batch.
        key = jax.random.key(self.sampling.seed)
        shape = self.trained.space.shape(*pixels.shape[2:4])
        noise, posterior_noise = (
            self._rows(jax.random.normal(key, size), len(filled))
            for key, size in (
                (key, shape),
                (jax.random.fold_in(key, 1), (pixels.shape[1], *shape)),
            )
        )
        enter, leave = make_transfer(self.trained.space)
        sources = enter(self.trained.autoencoder, self._place(pixels, 0), posterior_noise)
        weights = self.sampling.guidance.weights
        shares = np.array([weights[name] for name in self.sampling.guidance.branches], np.float32)
        shares = self._place(shares, None)
        branches = self._branches(filled, sources)
        out = self._sampler(self.trained.parameters, branches, noise, shares)
        images = to_uint8(self._fetch(leave(self.trained.autoencoder, out)))
        return {
            number: canvas.undo(image)
            for (number, _), canvas, image in zip(group, canvases, images, strict=False)
        }

    def _branches(self, jobs: Sequence[Job], sources: jax.Array) -> Condition:
        """Conditions (R, B, ...) of the guidance branches; `sources` is (B, n, h, w, C)."""
        prompts = [
            [self._branch(job, branch) for job in jobs]
            for branch in self.sampling.guidance.branches
        ]

        def stack(name: str) -> np.ndarray:
            return np.stack([[getattr(prompt, name) for prompt in row] for row in prompts])

        # Image slot k of a branch shows the source that its prompt places there.
        images = _arrange(sources, self._place(stack("order"), 1))
        tokens, valid, image_valid = (
            self._place(stack(name), 1) for name in ("tokens", "valid", "image_valid")
        )
        return Condition(tokens, valid, images, image_valid)

    def _place(self, array: np.ndarray, batch_axis: int | None) -> jax.Array:
        """An array that all processes hold, on the devices; a mesh splits it along the batch."""
        if self._sharder is None:
            return jnp.asarray(array)
        return distribute(array, self._sharder, batch_axis)

    def _rows(self, row: jax.Array, count: int) -> jax.Array:
        """A batch of equal rows."""
        if self._sharder is None:
            return jnp.broadcast_to(row, (count, *row.shape))
        return distribute(np.broadcast_to(row, (count, *row.shape)), self._sharder)

    def _fetch(self, array: jax.Array) -> np.ndarray:
        """The whole array, in every process."""
        return np.asarray(array) if self._sharder is None else gather(array, self._sharder)

    def _branch(self, job: Job, branch: str) -> EncodedPrompt:
        """The prompt of one guidance branch, in the slots of the instruction's."""
        count = len(job.sources)
        instructed = self._encode(job.prompt, count)
        if branch == "cond":
            return instructed
        text = image_only_prompt(count) if branch == "img" else self.sampling.negative_prompt
        return self._encode(text, count, len(instructed.order))

    def _encode(self, prompt: str, count: int, num_slots: int | None = None) -> EncodedPrompt:
        return encode_prompt(self._tokenizer, prompt, count, self._slots, num_slots)


@jax.jit
def _arrange(sources: jax.Array, order: jax.Array) -> jax.Array:
    """Sources (B, n, h, w, C) in the slots of each branch, (R, B, k, h, w, C)."""
    rows = jnp.arange(sources.shape[0])[None, :, None]
    return sources[rows, order]
