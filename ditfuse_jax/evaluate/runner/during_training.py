"""Evaluation while a model trains: a fixed set of held-out examples, scored and pictured.

The model stays where it trains: the devices of the mesh share each batch of examples, in sampling
and in scoring, and every process learns the scores.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import BASELINES
from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, METRICS, batch_metrics
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.files import make_folder
from ditfuse_jax.model.lora import combine_trees
from ditfuse_jax.parallel import Sharder, distribute, gather
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.trained import trained_model
from ditfuse_jax.tasks import Example, find_task
from ditfuse_jax.train import Criterion, EvalContext, Recipe

# Rows of the sample sheet.
_PICTURED = 6

# Examples at a time, or as many as the mesh has data-parallel devices.
_BATCH = 8

# Scored in any case; the first for the mean of the sources too.
_METRICS = CLEAN_METRICS


class HeldOut:
    """Fuses the same held-out examples at every call.

    Returns PSNR, SSIM and the metric of `train.keep_best`, and PSNR of the sources' mean for
    comparison; writes `samples/step-N.png`.
    """

    def __init__(self, recipe: Recipe):
        """Draws the examples.

        Raises:
          UserError: the source does not suit the task, `train.keep_best` is no metric, or the
            crops are too small for a metric.
        """
        evaluation = recipe.evaluation
        self.examples = held_out_examples(
            open_source(evaluation.source),
            evaluation.task,
            recipe.data.crop,
            evaluation.count,
            seed=0,  # the same for trainings of any seed, whose scores are compared
        )
        best = recipe.schedule.keep_best
        self.metrics = tuple(dict.fromkeys((*_METRICS, best) if best else _METRICS))
        _check(self.metrics, recipe.data.crop)
        self.criterion = Criterion(f"eval/{best}", METRICS[best].direction) if best else None

    def __call__(self, context: EvalContext) -> Mapping[str, float]:
        """See `train.loop.Callback`."""
        trains = context.state.ema or context.state.parameters
        trained = trained_model(
            combine_trees(context.frozen.base, trains),
            context.space,
            context.frozen.autoencoder,
            context.recipe,
            f"step {context.step}",
        )
        parts = context.sharder.data_parallel
        size = parts * math.ceil(min(_BATCH, len(self.examples)) / parts)
        fuser = Fuser(
            trained, context.recipe.sampling.override({"batch_size": size}), context.sharder
        )
        images = fuser.fuse(
            [FusionInput(example.sources, example.prompt) for example in self.examples]
        )
        if is_main_process():
            self._picture(context, images)
        means = [BASELINES["mean"](example.sources) for example in self.examples]
        scores = _mean_scores(self.examples, images, self.metrics, context.sharder)
        of_mean = _mean_scores(self.examples, means, _METRICS[:1], context.sharder)
        told = {f"eval/{name}": value for name, value in scores.items()}
        return told | {f"eval/{name}_of_mean": value for name, value in of_mean.items()}

    def _picture(self, context: EvalContext, images: list[np.ndarray]) -> None:
        titles = [f"View {letter}" for letter in "ABCD"[: len(self.examples[0].sources)]]
        rows = [
            [*example.sources, image, example.target]
            for example, image in zip(self.examples, images, strict=True)
        ]
        make_folder(context.run.samples)
        path = context.run.samples / f"step-{context.step:07d}.png"
        write_sheet(path, rows[:_PICTURED], [*titles, "Fused", "Target"], tile_width=192)


def held_out_examples(
    source: Source, task: str, crop: tuple[int, int], count: int, seed: int
) -> list[Example]:
    """`count` examples, the same for the same arguments.

    Raises:
      UserError: the source does not suit the task.
    """
    if source.num_images != find_task(task).num_images:
        raise UserError(
            f"evaluation.task {task!r} takes {find_task(task).num_images} image(s) at a time, "
            f"evaluation.source has {source.num_images}"
        )
    return [
        find_task(task)(source[i % len(source)], np.random.default_rng((seed, i)), crop)
        for i in range(count)
    ]


def _check(metrics: Sequence[str], crop: tuple[int, int]) -> None:
    for name in metrics:
        if name not in METRICS or METRICS[name].needs == "host":
            raise UserError(
                f"train.keep_best {name!r} is unknown; choose from {', '.join(METRICS)}, or leave "
                "it empty"
            )
        if min(crop) < (least := METRICS[name].smallest_side):
            raise UserError(
                f"data.crop {crop} is too small to evaluate: metric {name!r} needs sides of at "
                f"least {least} pixels"
            )


def _mean_scores(
    examples: Sequence[Example],
    images: Sequence[np.ndarray],
    names: tuple[str, ...],
    sharder: Sharder,
) -> dict[str, float]:
    """Scores against sources and target, averaged; the mesh shares the work."""
    # Filled up with copies, so that the scenes divide among the devices.
    count = len(examples)
    rows = list(range(count)) + [count - 1] * (-count % sharder.data_parallel)
    stacks = (
        [images[row] for row in rows],
        [examples[row].sources for row in rows],
        [examples[row].target for row in rows],
    )
    scores = _jitted_scores(names)(*(distribute(np.stack(stack), sharder) for stack in stacks))
    return {name: float(gather(values, sharder)[:count].mean()) for name, values in scores.items()}


@functools.cache
def _jitted_scores(names: tuple[str, ...]):
    return jax.jit(functools.partial(batch_metrics, names=names))
