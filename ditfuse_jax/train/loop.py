"""The training loop."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.main_guard import check_main_guard
from ditfuse_jax.parallel import heartbeat
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.timeouts import TimeoutIterator
from ditfuse_jax.train.changes import evaluation_settings
from ditfuse_jax.train.compile import CompiledSteps, to_devices
from ditfuse_jax.train.console import Console, write_line
from ditfuse_jax.train.evaluations import (
    CALLBACKS,
    Callback,
    EvalContext,
    Evaluation,
    find_criterion,
    make_evaluations,
)
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.optimizer import learning_rate
from ditfuse_jax.train.out_of_memory import OutOfMemory
from ditfuse_jax.train.parameter_overview import (
    list_parameters,
    parameter_summary,
    parameter_table,
)
from ditfuse_jax.train.pinned import with_pinned_addresses
from ditfuse_jax.train.profiler import Profiler
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.recorder import Recorder
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.settings import resolve
from ditfuse_jax.train.setup import Setup, set_up
from ditfuse_jax.train.signals import StopSignal
from ditfuse_jax.train.state import TrainState
from ditfuse_jax.train.unrecorded import unrecorded
from ditfuse_jax.train.writers import WRITERS, MultiWriter, Writer, make_writers


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
        passed = MultiWriter(writers)
        _close_at_end(passed, stack)
        with goodput.measure("init"):
            config = with_pinned_addresses(config)
            recipe = resolve(config)
            if recipe.data.workers:
                check_main_guard(f"training with data.workers={recipe.data.workers}")
            run = RunFolder(as_path(workdir))
            heartbeat.watch(goodput.activity, run.path / "stacks", recipe.train.hang_timeout)
            out_of_memory = stack.enter_context(OutOfMemory(run.path))
            for name in recipe.train.writers:
                WRITERS.find(name)  # refuses unknown names
            named = (CALLBACKS.find(name)(recipe) for name in recipe.train.callbacks)
            callbacks = [*named, *callbacks]
            own = evaluations is None
            evaluations = make_evaluations(recipe) if evaluations is None else evaluations
            criterion = find_criterion(recipe.train.keep_best, evaluations)
            # What evaluations that are passed as objects depend on is not known.
            compared = None
            if own and criterion:
                compared = evaluation_settings(config.to_dict(), criterion.name)
            quiet = quiet or not is_main_process()
            say = (lambda _: None) if quiet else write_line
            setup = set_up(config, recipe, run, criterion, compared, stack, say)

        recipe, checkpoints = setup.recipe, setup.checkpoints
        step, total, state = setup.start, recipe.train.steps, setup.state
        console = Console(total, step, recipe.data.batch_size, quiet=quiet)
        stack.callback(console.close)
        for note in setup.notes:
            console.print(note)
        undone = unrecorded(evaluations, step, step == total, run, setup.best, recipe.train.writers)
        if step >= total and not undone:
            return Outcome(step, False, goodput.shares())
        if is_main_process():
            console.print(_record_parameters(setup))

        recorder = _make_recorder(setup, passed, console, goodput, stack)

        def record_goodput() -> None:
            if run.is_owned():
                recorder.write(step, {f"goodput/{k}": v for k, v in goodput.shares().items()})

        stack.callback(record_goodput)
        if undone:
            console.print(f"step {step} was saved and its evaluation not recorded: evaluating it")
            with goodput.measure("evaluation"):
                _evaluate(undone, _context(setup, step, state), recorder, console, setup)
        if step >= total:
            return Outcome(step, False, goodput.shares())
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
            run.check_owned()
            recorder.flush()  # a run that continues from this step does not record it
            with goodput.measure("checkpoint"):
                checkpoints.save(step, state, setup.saved_config)

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
            run.check_owned()
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
    passed: Writer,
    console: Console,
    goodput: Goodput,
    stack: contextlib.ExitStack,
) -> Recorder:
    """Opens the recipe's writers, which `stack` closes, and returns what records with them."""
    recipe = setup.recipe
    writers: list[Writer] = []
    if is_main_process():
        own = MultiWriter(make_writers(recipe.train.writers, setup.run, setup.config.to_dict()))
        _close_at_end(own, stack)
        writers = [own, passed]
    rate = learning_rate(recipe.optimizer, recipe.train.steps)
    return Recorder(recipe, rate, console, MultiWriter(writers), goodput)


def _close_at_end(writer: MultiWriter, stack: contextlib.ExitStack) -> None:
    def fail(kind: object, error: BaseException | None, trace: object) -> None:
        del kind, trace
        if error is not None:
            writer.fail()

    stack.callback(writer.close)
    stack.push(fail)  # called before `close`


def _record_parameters(setup: Setup) -> str:
    """Writes the table of all arrays to the run folder; returns a short one."""
    parameters = list_parameters(trained=setup.abstract.parameters, **setup.frozen._asdict())
    write_text(setup.run.path / "parameters.txt", parameter_table(parameters))
    return parameter_summary(parameters)


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
    improved = False
    for evaluation in due:
        found = evaluation(context)
        # Before the metrics: what they hold is not evaluated again after an interruption.
        improved |= _record_best(context.step, found, console, setup)
        recorder.write(context.step, found)
        text = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        console.print(f"step {context.step}: {text}")
    return improved


def _record_best(step: int, scalars: Mapping[str, float], console: Console, setup: Setup) -> bool:
    """Records the value that chooses the best checkpoint; returns whether it is the best so far."""
    best = setup.best
    if best is None or best.criterion.name not in scalars:
        return False
    setup.run.check_owned()
    improved = best.record(step, scalars, setup.checkpoints.steps)
    if is_main_process():
        try:
            best.write()
        except UserError as error:  # written again, with this value, after the next evaluation
            console.warn_once("best", f"{error}; training goes on")
    return improved


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
