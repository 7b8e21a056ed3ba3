"""The training loop."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Sharder, heartbeat, make_mesh
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS
from ditfuse_jax.pipeline.timeouts import TimeoutIterator
from ditfuse_jax.train.base import check_moments, check_weights, load_frozen, load_initial
from ditfuse_jax.train.best import Best, Criterion
from ditfuse_jax.train.checkpoint import Checkpoints, Position
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.optimizer import learning_rate, make_optimizer
from ditfuse_jax.train.recipe import Config, to_json
from ditfuse_jax.train.recorder import Recorder, example_flops
from ditfuse_jax.train.run_folder import RunFolder, describe_environment
from ditfuse_jax.train.settings import Recipe, check_tokenizer, resolve
from ditfuse_jax.train.signals import StopSignal
from ditfuse_jax.train.state import Frozen, TrainState, abstract_state, create_state, shardings_of
from ditfuse_jax.train.step import Batch, TrainStep, make_train_step
from ditfuse_jax.train.writers import Console, MetricsWriter
from ditfuse_jax.weights.run_paths import LORA, PARAMETERS


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """What a callback sees: the run after `step` updates."""

    step: int
    state: TrainState
    frozen: Frozen
    space: Space
    recipe: Recipe
    run: RunFolder
    sharder: Sharder


class Callback(Protocol):
    """Called every `train.evaluate_every` steps and at the end, in all processes alike."""

    def __call__(self, context: EvalContext) -> Mapping[str, float]:
        """Returns scalars to record, the same in all processes."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
      step: updates done.
      stopped: a signal ended it before its last step.
      goodput: share of the time per kind of work.
    """

    step: int
    stopped: bool
    goodput: Mapping[str, float]


def train(
    config: Config,
    folder: Path | str,
    callbacks: Sequence[Callback] = (),
    *,
    criterion: Criterion | None = None,
    quiet: bool = False,
) -> Outcome:
    """Trains, or continues what the folder holds.

    Args:
      config: a locked recipe; see `load_recipe`.
      folder: the run folder.
      callbacks: evaluations.
      criterion: which of their scalars decides the best checkpoint, which is kept.
      quiet: no console output.

    Raises:
      UserError: bad config, data or folder; told before anything is allocated where possible.
    """
    goodput = Goodput()
    heartbeat.report_activity(lambda: goodput.current)
    with goodput.measure("init"):
        recipe = resolve(config)
        check_tokenizer(recipe)
        run = RunFolder(Path(folder))
        data = dataclasses.replace(recipe.data, log=run.path / BAD_RECORDS)
        recipe = dataclasses.replace(recipe, data=data)
        sharder = Sharder(make_mesh(recipe.mesh))
        sharder.check_batch(recipe.data.batch_size, recipe.step.accumulation)
        sources = data.sources  # a wrong path is told now, not after compilation
        check_weights(recipe)
        check_moments(recipe, sources)
        if is_main_process():
            run.check_writable()
        best = Best(run.path, criterion) if criterion else None
        checkpoints = Checkpoints(
            run.path,
            keep=recipe.schedule.keep_checkpoints,
            trained=LORA if recipe.lora else PARAMETERS,
            best=best,
        )
        optimizer = make_optimizer(recipe.optimizer, recipe.schedule.steps)
        graph, _ = make_graph(recipe.network)
        keep_ema = recipe.step.ema_decay > 0
        abstract = abstract_state(recipe.network, optimizer, keep_ema, sharder)
        space, frozen = load_frozen(recipe, sharder)
        if checkpoints.latest is None:
            initial = load_initial(recipe, abstract.parameters)
            state = create_state(
                recipe.network, optimizer, keep_ema, recipe.seed, abstract, initial
            )
            start = 0
        else:
            check_same_model(checkpoints.config(checkpoints.latest), config, run.path)
            state, position = checkpoints.restore(checkpoints.latest, abstract)
            start = position.batches
        if best:
            best.forget_after(start)
        if is_main_process():
            run.begin(to_json(config), describe_environment(), start)

    total = recipe.schedule.steps
    console = Console(total, start, recipe.data.batch_size, quiet=quiet or not is_main_process())
    if start >= total:
        console.say(f"nothing to train: {run.path} is at its last step, {start}")
        console.close()
        checkpoints.close()
        return Outcome(start, False, goodput.shares())

    if start:
        console.say(f"continuing {run.path} at step {start} of {total}")
    batches = TimeoutIterator(
        data.batches(start, jax.process_index(), jax.process_count()),
        recipe.schedule.data_timeout,
    )
    writer = MetricsWriter(run) if is_main_process() else None
    rate = learning_rate(recipe.optimizer, total)
    recorder = Recorder(recipe, rate, console, writer, goodput)
    stop = StopSignal()
    compiled: dict[tuple[int, ...], tuple[Callable, float]] = {}  # by the shape of a batch
    step, stopping = start, False

    def save() -> None:
        with goodput.measure("checkpoint"):
            checkpoints.save(step, state, Position(batches=step), config.to_dict())

    def next_batch() -> dict[str, jax.Array]:
        with goodput.measure("data"):
            return to_devices(next(batches), sharder)

    try:
        while step < total and not stopping:
            try:
                batch = next_batch()
            except UserError:
                # Bad data costs no work, unless others are in the next step already.
                if step > (checkpoints.latest or 0) and jax.process_count() == 1:
                    save()
                    checkpoints.wait()
                raise
            shape = batch["target"].shape
            if shape not in compiled:
                with goodput.measure("compile"):
                    step_function = make_train_step(graph, optimizer, recipe.step, sharder, space)
                    train_step = compile_step(step_function, sharder, abstract, frozen, batch)
                # One batch tells how much of the sequence is real.
                flops = example_flops(recipe, batch) * recipe.data.batch_size
                compiled[shape] = train_step, flops
                if len(compiled) == 1:
                    recorder.start(step)
            train_step, flops = compiled[shape]
            with goodput.measure("step"), jax.transfer_guard("disallow"):
                state, metrics = train_step(state, frozen, batch)
            step += 1
            recorder.push(step, metrics, flops)
            last, stopping = step == total, stop.requested(step)
            if last or stopping or _due(step, recipe.schedule.checkpoint_every):
                save()
            if last or _due(step, recipe.schedule.evaluate_every):
                recorder.flush()
                with goodput.measure("evaluation"):
                    context = EvalContext(step, state, frozen, space, recipe, run, sharder)
                    scalars: dict[str, float] = {}
                    for callback in callbacks:
                        found = callback(context)
                        recorder.write(step, found)
                        told = ", ".join(f"{k} {v:.4g}" for k, v in found.items())
                        console.say(f"step {step}: {told}")
                        scalars |= found
                improved = best is not None and best.record(step, scalars, checkpoints.steps)
                if improved and checkpoints.latest != step:
                    save()
        recorder.flush()
        with goodput.measure("checkpoint"):
            checkpoints.wait()
    finally:
        stop.close()
        batches.close()
        checkpoints.close()
        recorder.write(step, {f"goodput/{k}": share for k, share in goodput.shares().items()})
        if writer:
            writer.close()
        console.close()
    if step < total:
        console.say(
            f"stopped by a signal: step {step} of {total} is saved in {run.path}; run the same "
            "command to continue"
        )
    else:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in goodput.shares().items())
        console.say(f"done: {run.path} is at step {step}; {goodput.total:.0f} s ({shares})")
    return Outcome(step, step < total, goodput.shares())


def compile_step(
    step: TrainStep, sharder: Sharder, abstract: TrainState, frozen: Frozen, batch: Batch
) -> Callable:
    """Compiles the step ahead of its first call; the state's buffers are donated."""
    return lower_step(step, sharder, abstract, frozen, batch).compile()


def lower_step(
    step: TrainStep, sharder: Sharder, abstract: TrainState, frozen: Frozen, batch: Batch
) -> jax.stages.Lowered:
    """Traces the step; all arguments may be abstract."""
    out_shardings = (shardings_of(abstract), sharder.replicated())
    jitted = jax.jit(step, donate_argnums=0, out_shardings=out_shardings)
    return jitted.lower(abstract, frozen, batch)


def to_devices(batch: Mapping[str, Any], sharder: Sharder) -> dict[str, jax.Array]:
    """This process's rows of a batch -> global arrays."""
    sharding = sharder.batch()
    if jax.process_count() == 1:  # all arrays in one call: a third of the time
        return jax.device_put(dict(batch), sharding)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


_MODEL_DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(ModelConfig)
    if field.default is not dataclasses.MISSING
}


def check_same_model(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Refuses to continue a run with another model.

    Raises:
      UserError: naming the first difference.
    """
    changeable = {*RUNTIME_FIELDS, "adapter"}
    for section in ("model", "lora"):
        old, new = saved[section], to_plain(config[section])
        if section == "model":  # a field that is younger than the checkpoint had its default
            old = _MODEL_DEFAULTS | dict(old)
        for key in sorted((set(old) | set(new)) - changeable):
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{path} holds a checkpoint of another model: {section}.{key} is "
                    f"{old.get(key)!r} there and {new.get(key)!r} in this config; use the same "
                    "config or another --workdir"
                )


def to_plain(section: Config) -> dict[str, Any]:
    """A config section as JSON would give it back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in section.to_dict().items()}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
