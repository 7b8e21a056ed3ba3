"""The start of a run: checks, folder, mesh, and the first or the restored state."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax
from flax import nnx
from jax.experimental import multihost_utils

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS
from ditfuse_jax.prompts.fingerprint import FINGERPRINT, check_tokenizer, tokenizer_fingerprint
from ditfuse_jax.train.best import BestTracker, Criterion
from ditfuse_jax.train.changes import check_same_model, evaluation_settings
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.distill import check_same_teacher, parameters_fingerprint
from ditfuse_jax.train.for_devices import record, with_attention, with_remat
from ditfuse_jax.train.initial import check_inputs, load_frozen, load_initial
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.pinned import check_same_weights
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.run_lock import RunLock, acquire
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.start import Found, record_start, start_line
from ditfuse_jax.train.state import Frozen, TrainState, abstract_state, create_state
from ditfuse_jax.train.step import TrainStep, make_train_step
from ditfuse_jax.train.teacher import TEACHER_FINGERPRINT
from ditfuse_jax.weights.run_paths import LORA, PARAMETERS

# Characters of an error that the lock keeps.
_FAILURE_LENGTH = 1000


@dataclasses.dataclass
class Setup:
    """What the training loop works with.

    Attributes:
      abstract: shapes, types and shardings of the state.
      state: at the first step of this process.
      start: number of updates that the state has seen.
      best: values of the evaluations that choose the best checkpoint, if one is kept.
      config: the recipe's config with the settings that were chosen for the devices.
      saved_config: the config that checkpoints hold, with the fingerprints of the tokenizer and the
        teacher.
      notes: lines for the user: where the run starts, what changed, and which settings were chosen
        for the devices; in the main process.
      compiled: the steps that were compiled to choose, by the shape of the targets.
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
    config: Config
    saved_config: dict[str, Any]
    notes: list[str]
    compiled: dict[tuple[int, ...], Any]

    def make_step(self) -> TrainStep:
        """Returns the training step, not compiled."""
        return make_train_step(
            self.graph, self.optimizer, self.recipe.step, self.partitioner, self.space
        )


def set_up(
    config: Config,
    recipe: Recipe,
    run: RunFolder,
    criterion: Criterion | None,
    evaluation: Mapping[str, Any] | None,
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
) -> Setup:
    """Checks everything, takes the folder, creates the state or restores the newest checkpoint.

    Args:
      config: the run's config.
      recipe: the same, typed.
      run: the run folder.
      criterion: chooses the best checkpoint, if one is kept.
      evaluation: the settings that its values depend on, see `evaluation_settings`; None if they
        are not known.
      stack: releases the folder and closes the checkpoints.
      say: prints a line while the run waits for its folder.

    Raises:
      UserError: bad config, data or folder; before anything is allocated where possible.
    """
    data = dataclasses.replace(recipe.data, log=run.path / BAD_RECORDS)
    recipe = dataclasses.replace(recipe, data=data)
    partitioner = Partitioner(make_mesh(recipe.mesh))
    partitioner.check_batch(data.batch_size, recipe.step.accumulation)
    recipe, choices = with_attention(recipe, partitioner.mesh.devices.flat[0])
    check_inputs(recipe, data.sources)  # opens the sources: wrong paths are reported here
    found = _take(run, stack, say)
    earlier = run.earlier_config()
    best = _open_best(run, criterion, evaluation, earlier)
    checkpoints = Checkpoints(
        run.path,
        keep=recipe.train.keep_checkpoints,
        trained=LORA if recipe.lora else PARAMETERS,
        best=best,
    )
    stack.callback(checkpoints.close)
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    keep_ema = recipe.step.ema_decay > 0
    abstract = abstract_state(recipe.network, optimizer, keep_ema, partitioner)
    space, frozen = load_frozen(recipe, partitioner)
    identity = {FINGERPRINT: tokenizer_fingerprint(data.encoder.tokenizer)}
    if recipe.teacher:
        identity[TEACHER_FINGERPRINT] = parameters_fingerprint(frozen.teacher or frozen.base)
    recipe, more_choices, compiled = with_remat(
        recipe, partitioner, optimizer, abstract, space, frozen
    )
    config = record(config, recipe)
    graph, _ = make_graph(recipe.network)
    latest = checkpoints.latest
    start = latest or 0
    average: list[str] = []
    if latest is not None:  # 0 in a folder of converted weights, which is not a run to continue
        saved = checkpoints.config(start)
        check_same_model(saved, config, run.path)
        check_same_weights(saved, config, run.path)
        teacher = identity.get(TEACHER_FINGERPRINT, "")
        check_same_teacher(saved, teacher, recipe.model.dtype, run.path)
        check_tokenizer(
            data.encoder.tokenizer,
            saved.get(FINGERPRINT),
            recipe.model.vocab_size,
            f"the model in {run.path}",
        )
        state = checkpoints.restore(start, abstract)
        if keep_ema and not checkpoints.kept_average(start):
            average = [
                f"the run kept no average of its parameters (train.ema_decay=0): it begins with "
                f"those of step {start}"
            ]
    else:
        initial = load_initial(recipe, abstract.parameters)
        state = create_state(recipe.network, optimizer, keep_ema, recipe.seed, abstract, initial)
    if best:
        best.forget_after(start)
    notes = []
    if found:
        steps = checkpoints.steps
        notes = [
            start_line(run, start, recipe.train.steps, found, steps, recipe.weights),
            *record_start(run, start, config, earlier, best),
            *average,
            *choices,
            *more_choices,
        ]
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
        config=config,
        saved_config=config.to_dict() | identity,
        notes=notes,
        compiled=compiled,
    )


def _take(run: RunFolder, stack: contextlib.ExitStack, say: Callable[[str], None]) -> Found | None:
    """Makes this training the owner of the folder; the main process gets what it found there."""
    found = None
    if is_main_process():
        run.check_writable()
        found = Found.look(run)
        run.lock = acquire(run.path, say)
        stack.push(functools.partial(_release, run.lock))
        if not found.is_new:  # an owner that was waited for may have saved
            found = Found.look(run)
    # The others read the folder only when nobody else writes there.
    multihost_utils.sync_global_devices("run folder is taken")
    return found


def _release(lock: RunLock, kind: object, error: BaseException | None, trace: object) -> None:
    """Releases the folder at the end of a training, with the error that it ended with."""
    del kind, trace
    failure = ""
    if isinstance(error, Exception):  # not Ctrl-C
        text = " ".join(str(error).split())[:_FAILURE_LENGTH]
        failure = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    lock.release(failure)


def _open_best(
    run: RunFolder,
    criterion: Criterion | None,
    evaluation: Mapping[str, Any] | None,
    earlier: Mapping[str, Any] | None,
) -> BestTracker | None:
    if criterion is None:
        return None
    # Files of earlier versions do not hold the evaluation.
    before = evaluation_settings(earlier, criterion.name) if earlier is not None else None
    return BestTracker(run.path, criterion, evaluation, before)
