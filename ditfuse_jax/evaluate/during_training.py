"""Evaluation while a model trains: a fixed set of held-out examples, scored and pictured."""

from collections.abc import Mapping

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import SUITES, score_candidates
from ditfuse_jax.evaluate.scores import BASELINES
from ditfuse_jax.evaluate.sheets import write_sheet
from ditfuse_jax.files import make_folder
from ditfuse_jax.model.lora import join
from ditfuse_jax.parallel.processes import is_main
from ditfuse_jax.pipeline import Source, open_source
from ditfuse_jax.sample.fuser import Fuser, Job, sampling_settings
from ditfuse_jax.sample.trained import trained_model
from ditfuse_jax.tasks import TASKS, Example
from ditfuse_jax.train import Moment, Recipe
from ditfuse_jax.train.state import Parameters

# Rows of the sample sheet.
_PICTURED = 6


class HeldOut:
    """Fuses the same held-out examples at every call.

    Returns PSNR and SSIM against the target, and PSNR of the sources' mean for comparison; writes
    `samples/step-N.png`.
    """

    def __init__(self, recipe: Recipe):
        evaluation = recipe.evaluation
        self.examples = held_out_examples(
            open_source(evaluation.source),
            evaluation.task,
            recipe.stream.crop,
            evaluation.count,
            recipe.seed,
        )

    def __call__(self, moment: Moment) -> Mapping[str, float]:
        """See `train.loop.Callback`."""
        trains = moment.state.ema or moment.state.parameters
        parameters = local_copy(join(moment.frozen.base, trains))
        autoencoder = local_copy(moment.frozen.autoencoder)
        if not is_main():
            return {}
        trained = trained_model(
            parameters, moment.space, autoencoder, moment.recipe, f"step {moment.step}"
        )
        fuser = Fuser(
            trained, sampling_settings(trained, {"batch_size": min(8, len(self.examples))})
        )
        jobs = [Job(example.sources, example.prompt) for example in self.examples]
        images = fuser.fuse(jobs)
        self._picture(moment, images)
        return _scores(self.examples, images)

    def _picture(self, moment: Moment, images: list[np.ndarray]) -> None:
        titles = [f"View {letter}" for letter in "ABCD"[: len(self.examples[0].sources)]]
        rows = [
            [*example.sources, image, example.target]
            for example, image in zip(self.examples, images, strict=True)
        ]
        make_folder(moment.run.samples)
        path = moment.run.samples / f"step-{moment.step:07d}.png"
        write_sheet(path, rows[:_PICTURED], [*titles, "Fused", "Target"], tile_width=192)


def held_out_examples(
    source: Source, task: str, crop: tuple[int, int], count: int, seed: int
) -> list[Example]:
    """`count` examples, the same for the same arguments.

    Raises:
      UserError: the source does not suit the task.
    """
    if source.num_images != TASKS[task].num_images:
        raise UserError(
            f"evaluation.task {task!r} takes {TASKS[task].num_images} image(s) at a time, "
            f"evaluation.source has {source.num_images}"
        )
    return [
        TASKS[task](source[i % len(source)], np.random.default_rng((seed, i)), crop)
        for i in range(count)
    ]


def local_copy(parameters: Parameters) -> Parameters:
    """Parameters of a mesh, whole on this process's first device; of one device, themselves."""
    leaves = jax.tree.leaves(parameters)
    if not leaves or leaves[0].sharding.mesh.size == 1:
        return parameters
    mesh = leaves[0].sharding.mesh
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    gathered = jax.jit(lambda x: x, out_shardings=whole)(parameters)
    return jax.tree.map(lambda x: x.addressable_data(0), gathered)


def _scores(examples: list[Example], images: list[np.ndarray]) -> dict[str, float]:
    names = SUITES["restoration"]
    rows = [
        score_candidates(
            [image, BASELINES["mean"](example.sources)], example.sources, example.target, names
        )
        for example, image in zip(examples, images, strict=True)
    ]
    (psnr, psnr_of_mean), (ssim, _) = (np.mean([row[name] for row in rows], 0) for name in names)
    return {
        "eval/psnr": float(psnr),
        "eval/ssim": float(ssim),
        "eval/psnr_of_mean": float(psnr_of_mean),
    }
