"""The start of a run: checks, folder, mesh, and the first or the restored state."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS
from ditfuse_jax.prompts.fingerprint import FINGERPRINT, check_tokenizer, tokenizer_fingerprint
from ditfuse_jax.train.best import BestTracker, Criterion
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.initial import check_inputs, load_frozen, load_initial
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.recipe import Config, to_json
from ditfuse_jax.train.run_folder import RunFolder, describe_environment
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen, TrainState, abstract_state, create_state
from ditfuse_jax.train.step import TrainStep, make_train_step
from ditfuse_jax.weights.run_paths import LORA, PARAMETERS


@dataclasses.dataclass
class Setup:
    """What the training loop works with.

    Attributes:
      abstract: shapes, types and shardings of the state.
      state: at the first step of this process.
      start: number of updates that the state has seen.
      best: values of the evaluations that choose the best checkpoint, if one is kept.
      saved_config: the config that checkpoints hold, with the tokenizer's fingerprint.
    """

    recipe: Recipe
    run: RunFolder
    partitioner: Partitioner
    space: Space
    frozen: Frozen
    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    abstract: TrainState
    state: TrainState
    start: int
    checkpoints: Checkpoints
    best: BestTracker | None
    saved_config: dict[str, Any]

    def make_step(self) -> TrainStep:
        """Returns the training step, not compiled."""
        return make_train_step(
            self.graph, self.optimizer, self.recipe.step, self.partitioner, self.space
        )


def set_up(config: Config, recipe: Recipe, workdir: Path, criterion: Criterion | None) -> Setup:
    """Checks everything, then creates the state or restores the newest checkpoint.

    Raises:
      UserError: bad config, data or folder; before anything is allocated where possible.
    """
    run = RunFolder(workdir)
    data = dataclasses.replace(recipe.data, log=run.path / BAD_RECORDS)
    recipe = dataclasses.replace(recipe, data=data)
    partitioner = Partitioner(make_mesh(recipe.mesh))
    partitioner.check_batch(data.batch_size, recipe.step.accumulation)
    check_inputs(recipe, data.sources)  # opens the sources: wrong paths are reported here
    if is_main_process():
        run.check_writable()
    best = BestTracker(run.path, criterion) if criterion else None
    checkpoints = Checkpoints(
        run.path,
        keep=recipe.train.keep_checkpoints,
        trained=LORA if recipe.lora else PARAMETERS,
        best=best,
    )
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    graph, _ = make_graph(recipe.network)
    keep_ema = recipe.step.ema_decay > 0
    abstract = abstract_state(recipe.network, optimizer, keep_ema, partitioner)
    space, frozen = load_frozen(recipe, partitioner)
    latest = checkpoints.latest
    start = latest or 0
    if latest is not None:  # 0 in a folder of converted weights, which is not a run to continue
        saved = checkpoints.config(start)
        check_same_model(saved, config, run.path)
        check_tokenizer(
            data.encoder.tokenizer,
            saved.get(FINGERPRINT),
            recipe.model.vocab_size,
            f"the model in {run.path}",
        )
        state = checkpoints.restore(start, abstract)
    else:
        initial = load_initial(recipe, abstract.parameters)
        state = create_state(recipe.network, optimizer, keep_ema, recipe.seed, abstract, initial)
    if best:
        best.forget_after(start)
    if is_main_process():
        run.begin(to_json(config), describe_environment(), start)
    return Setup(
        recipe=recipe,
        run=run,
        partitioner=partitioner,
        space=space,
        frozen=frozen,
        graph=graph,
        optimizer=optimizer,
        abstract=abstract,
        state=state,
        start=start,
        checkpoints=checkpoints,
        best=best,
        saved_config=config.to_dict()
        | {FINGERPRINT: tokenizer_fingerprint(data.encoder.tokenizer)},
    )


_MODEL_DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(ModelConfig)
    if field.default is not dataclasses.MISSING
}


def check_same_model(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Refuses to continue a run with another model.

    Args:
      saved: the checkpoint's config.
      config: of the run that continues.
      path: of the run, for the message.

    Raises:
      UserError: naming the first difference.
    """
    changeable = {*RUNTIME_FIELDS, "adapter"}
    for section in ("model", "lora"):
        old, new = saved[section], to_plain(config[section])
        if section == "model":  # a field that is newer than the checkpoint had its default
            old = _MODEL_DEFAULTS | dict(old)
        for key in sorted((set(old) | set(new)) - changeable):
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{path} holds a checkpoint of another model: {section}.{key} is "
                    f"{old.get(key)!r} there and {new.get(key)!r} in this config; use the same "
                    "config or another --workdir"
                )


def to_plain(section: Config) -> dict[str, Any]:
    """Returns a config section as it is read back from JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in section.to_dict().items()}
