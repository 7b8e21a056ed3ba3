"""Evaluation during training: scores and a contact sheet of fixed held-out examples.

The model stays where it trains: the devices of the mesh share each batch of examples, in sampling
and in scoring, and every process gets the scores.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ditfuse_jax.checks import check_at_least
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import BASELINES
from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, METRICS, batch_metrics
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.files import make_folder
from ditfuse_jax.model.lora import combine_trees
from ditfuse_jax.parallel import Partitioner, distribute, gather
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.trained import TrainedModel, for_sampling
from ditfuse_jax.tasks import Example, Task, make_task
from ditfuse_jax.train import EvalContext, Recipe
from ditfuse_jax.train.console import write_line

_SHEET_ROWS = 6  # of the contact sheet
_BATCH_SIZE = 8  # rounded up to a multiple of the data-parallel devices


class HeldOut:
    """The evaluator `held_out`: fuses the same held-out examples at every call.

    Returns PSNR, SSIM and the metric of `train.keep_best`, and PSNR of the mean of the sources for
    comparison; writes `samples/step-N.png`.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        source: str = "samples:heldout",
        task: str | Mapping[str, Any] = "m3",
        count: int = 16,
    ):
        """Draws the examples.

        Args:
          recipe: of the training.
          source: see `pipeline.open_source`.
          task: see `tasks.make_task`.
          count: number of examples.

        Raises:
          UserError: the source does not suit the task, or a metric is impossible for them.
        """
        check_at_least("count", count, 1)
        self.examples = held_out_examples(
            open_source(source),
            make_task(task),
            recipe.data.crop,
            count,
            seed=0,  # the same for trainings of any seed, whose scores are compared
        )
        best = recipe.train.keep_best
        chosen = (best,) if best in METRICS and METRICS[best].needs != "host" else ()
        self.metrics = tuple(dict.fromkeys((*CLEAN_METRICS, *chosen)))
        _check_metrics(self.metrics, len(self.examples[0].sources), recipe.data.crop)
        self._warned = False
        self.directions = {name: METRICS[name].direction for name in self.metrics}

    def __call__(self, context: EvalContext) -> Mapping[str, float]:
        """See `train.Evaluator`."""
        trains = context.state.ema or context.state.parameters
        recipe = context.recipe
        trained = TrainedModel(
            for_sampling(recipe.network, recipe.sampling),
            combine_trees(context.frozen.base, trains),
            context.space,
            context.frozen.autoencoder,
            recipe.model,
            recipe.sampling,
            recipe.data.encoder.tokenizer,
            None,
            f"step {context.step}",
            recipe.lora,
            quantized=recipe.network.quantize,
        )
        parts = context.partitioner.data_parallel
        size = parts * math.ceil(min(_BATCH_SIZE, len(self.examples)) / parts)
        fuser = StackFuser(
            trained, context.recipe.sampling.override({"batch_size": size}), context.partitioner
        )
        images = fuser.fuse(
            [FusionInput(example.sources, example.prompt) for example in self.examples]
        )
        if is_main_process():
            self._picture(context, images)
        means = [BASELINES["mean"](example.sources) for example in self.examples]
        scores = _mean_scores(self.examples, images, self.metrics, context.partitioner)
        of_mean = _mean_scores(self.examples, means, CLEAN_METRICS[:1], context.partitioner)
        return scores | {f"{name}_of_mean": value for name, value in of_mean.items()}

    def _picture(self, context: EvalContext, images: list[np.ndarray]) -> None:
        titles = [f"View {letter}" for letter in "ABCD"[: len(self.examples[0].sources)]]
        rows = [
            [*example.sources, image, example.target]
            for example, image in zip(self.examples, images, strict=True)
        ]
        path = context.samples / f"step-{context.step:07d}.png"
        try:
            make_folder(context.samples)
            write_sheet(path, rows[:_SHEET_ROWS], [*titles, "Fused", "Target"], tile_width=192)
        except UserError as error:  # a full disk: the scores count, and the next save decides
            if not self._warned:
                write_line(f"{error}; training goes on without the picture")
            self._warned = True


def held_out_examples(
    source: Source, task: Task, crop: tuple[int, int], count: int, seed: int
) -> list[Example]:
    """Returns `count` examples, the same for the same arguments.

    Raises:
      UserError: the source does not suit the task.
    """
    if source.num_images != task.num_images:
        raise UserError(
            f"the task takes {task.num_images} image(s) at a time, the source has "
            f"{source.num_images}"
        )
    return [
        task(source[i % len(source)], np.random.default_rng((seed, i)), crop) for i in range(count)
    ]


def _check_metrics(metrics: Sequence[str], num_sources: int, crop: tuple[int, int]) -> None:
    for name in metrics:
        if reason := METRICS[name].why_impossible(True, num_sources, crop):
            raise UserError(
                f"the held-out examples, {num_sources} sources with data.crop {crop}, cannot be "
                f"scored: metric {name!r} {reason}; change data.crop or train.keep_best"
            )


def _mean_scores(
    examples: Sequence[Example],
    images: Sequence[np.ndarray],
    names: tuple[str, ...],
    partitioner: Partitioner,
) -> dict[str, float]:
    """Returns mean scores against sources and target, computed on the whole mesh."""
    # Padded with copies, so that the scenes divide evenly among the devices.
    count = len(examples)
    rows = list(range(count)) + [count - 1] * (-count % partitioner.data_parallel)
    stacks = (
        [images[row] for row in rows],
        [examples[row].sources for row in rows],
        [examples[row].target for row in rows],
    )
    scores = _jitted_scores(names)(*(distribute(np.stack(stack), partitioner) for stack in stacks))
    return {
        name: float(gather(values, partitioner)[:count].mean()) for name, values in scores.items()
    }


@functools.cache
def _jitted_scores(names: tuple[str, ...]):
    return jax.jit(functools.partial(batch_metrics, names=names))
