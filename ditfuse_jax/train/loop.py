"""The training loop."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import heartbeat
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.timeouts import TimeoutIterator
from ditfuse_jax.train.compile import CompiledSteps, to_devices
from ditfuse_jax.train.evaluations import (
    CALLBACKS,
    Callback,
    EvalContext,
    Evaluation,
    find_criterion,
    make_evaluations,
)
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.initial import with_pinned_addresses
from ditfuse_jax.train.optimizer import learning_rate
from ditfuse_jax.train.out_of_memory import OutOfMemory
from ditfuse_jax.train.profiler import Profiler
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.recorder import Recorder
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.settings import resolve
from ditfuse_jax.train.setup import Setup, set_up
from ditfuse_jax.train.signals import StopSignal
from ditfuse_jax.train.state import TrainState
from ditfuse_jax.train.writers import WRITERS, Console, MultiWriter, Writer, make_writers


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
      step: number of updates.
      stopped: a signal ended it before its last step.
      goodput: fraction of the time per kind of work.
    """

    step: int
    stopped: bool
    goodput: Mapping[str, float]


def train(
    config: Config,
    workdir: Path | str,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
    *,
    evaluations: Sequence[Evaluation] | None = None,
    quiet: bool = False,
) -> Outcome:
    """Trains, or continues the run in the folder.

    Args:
      config: a locked recipe; see `load_recipe`.
      workdir: the run folder.
      writers: record metrics beside those of `config.train.writers`; closed at the end, even if the
        run fails or has nothing to do.
      callbacks: called after every update, beside those of `config.train.callbacks`.
      evaluations: instead of those of `config.evaluations`; `()` for none.
      quiet: no console output.

    Raises:
      UserError: bad config, data or folder; before anything is allocated where possible.
    """
    goodput = Goodput()
    heartbeat.watch(goodput.activity)
    with contextlib.ExitStack() as stack:  # closes everything, the last opened first
        stack.callback(MultiWriter(writers).close)
        with goodput.measure("init"):
            config = with_pinned_addresses(config)
            recipe = resolve(config)
            path = RunFolder(as_path(workdir)).path
            heartbeat.watch(goodput.activity, path / "stacks", recipe.train.hang_timeout)
            out_of_memory = stack.enter_context(OutOfMemory(path))
            for name in recipe.train.writers:
                WRITERS.find(name)  # refuses unknown names
            named = (CALLBACKS.find(name)(recipe) for name in recipe.train.callbacks)
            callbacks = [*named, *callbacks]
            if evaluations is None:
                evaluations = make_evaluations(recipe)
            criterion = find_criterion(recipe.train.keep_best, evaluations)
            setup = set_up(config, recipe, as_path(workdir), criterion)

        recipe, run, checkpoints = setup.recipe, setup.run, setup.checkpoints
        stack.callback(checkpoints.close)
        step, total, state = setup.start, recipe.train.steps, setup.state
        quiet = quiet or not is_main_process()
        console = Console(total, step, recipe.data.batch_size, quiet=quiet)
        stack.callback(console.close)
        if step >= total:
            console.print(f"nothing to train: {run.path} is at its last step, {step}")
            return Outcome(step, False, goodput.shares())
        if step:
            console.print(f"continuing {run.path} at step {step} of {total}")

        recorder = _make_recorder(setup, config, writers, console, goodput, stack)
        batches = TimeoutIterator(
            recipe.data.batches(step, jax.process_index(), jax.process_count()),
            recipe.train.data_timeout,
        )
        stack.callback(batches.close)
        out_of_memory.steps = compiled = CompiledSteps(setup, goodput, console)
        profiler = Profiler(
            run.path, recipe.train.profile_steps, step, recorder.flush, console.print
        )
        stack.callback(profiler.close)
        stop, stopping = StopSignal(), False
        stack.callback(stop.close)

        def save() -> None:
            with goodput.measure("checkpoint"):
                checkpoints.save(step, state, setup.saved_config)

        def record_goodput() -> None:
            recorder.write(step, {f"goodput/{k}": v for k, v in goodput.shares().items()})

        stack.callback(record_goodput)
        while step < total and not stopping:
            try:
                with goodput.measure("data"):
                    batch = to_devices(next(batches), setup.partitioner)
            except UserError:
                # Bad data loses no work.  Other processes may be in the next step already.
                if step > (checkpoints.latest or 0) and jax.process_count() == 1:
                    save()
                    checkpoints.wait()
                raise
            train_step, flops = compiled.get(batch)
            recorder.start(step)
            with goodput.measure("step"), jax.transfer_guard("disallow"):
                state, metrics = train_step(state, setup.frozen, batch)
            step += 1
            recorder.push(step, metrics, flops)

            context = _context(setup, step, state)
            with goodput.measure("callback"):
                for callback in (profiler, *callbacks):
                    recorder.write(step, callback(context) or {})
            last, stopping = step == total, stop.requested(step)
            if last or stopping or _is_due(step, recipe.train.checkpoint_every):
                save()
            due = [evaluation for evaluation in evaluations if evaluation.is_due(step, last)]
            if due:
                with goodput.measure("evaluation"):
                    improved = _evaluate(due, context, recorder, console, setup)
                if improved and checkpoints.latest != step:
                    save()
        recorder.flush()
        with goodput.measure("checkpoint"):
            checkpoints.wait()
    console.print(_summary(step, total, run.path, goodput))
    return Outcome(step, step < total, goodput.shares())


def _make_recorder(
    setup: Setup,
    config: Config,
    writers: Sequence[Writer],
    console: Console,
    goodput: Goodput,
    stack: contextlib.ExitStack,
) -> Recorder:
    """Opens the recipe's writers, which `stack` closes, and returns what records with them."""
    recipe = setup.recipe
    opened = []
    if is_main_process():
        opened = make_writers(recipe.train.writers, setup.run, config.to_dict())
        stack.callback(MultiWriter(opened).close)
        opened = [*opened, *writers]
    rate = learning_rate(recipe.optimizer, recipe.train.steps)
    return Recorder(recipe, rate, console, MultiWriter(opened), goodput)


def _context(setup: Setup, step: int, state: TrainState) -> EvalContext:
    return EvalContext(
        step,
        state,
        setup.frozen,
        setup.space,
        setup.recipe,
        setup.run,
        setup.partitioner,
        samples=setup.run.samples,
    )


def _evaluate(
    due: Sequence[Evaluation],
    context: EvalContext,
    recorder: Recorder,
    console: Console,
    setup: Setup,
) -> bool:
    """Evaluates and records; returns whether the step is the best so far."""
    recorder.flush()
    scalars: dict[str, float] = {}
    for evaluation in due:
        found = evaluation(context)
        recorder.write(context.step, found)
        text = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        console.print(f"step {context.step}: {text}")
        scalars |= found
    best = setup.best
    if best is None or best.criterion.name not in scalars:
        return False
    return best.record(context.step, scalars, setup.checkpoints.steps)


def _summary(step: int, total: int, path: Path, goodput: Goodput) -> str:
    if step < total:
        return (
            f"stopped by a signal: step {step} of {total} is saved in {path}; run the same command "
            "to continue"
        )
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in goodput.shares().items())
    return f"done: {path} is at step {step}; {goodput.total:.0f} s ({shares})"


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
