"""Profiles of training steps in the run folder, for xprof.

A profile is taken of the steps `train.profile_steps`, and of the next steps of all processes when
one of them receives SIGUSR1 (inside `exit_together`).  It lies in
`profiles/plugins/profile/step-N`, a file per process: `xprof --logdir RUN/profiles` shows it.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_bytes
from ditfuse_jax.parallel.activity import PROFILE_REQUESTS
from ditfuse_jax.train.evaluations import EvalContext

FOLDER = "profiles"
# Steps of a profile that a signal asks for.
STEPS_ON_REQUEST = 5


class Profiler:
    """Takes profiles; a callback of the training loop."""

    def __init__(
        self,
        run: Path,
        steps: tuple[int, ...],
        step: int,
        flush: Callable[[], None],
        report: Callable[[str], None],
    ):
        """Starts a profile of the first step if it is due.

        Args:
          run: the run folder.
          steps: first and last step of a profile; empty for none.
          step: number of updates so far.
          flush: waits until the devices have done all steps.
          report: prints a line.
        """
        self._run, self._planned = run, steps
        self._flush, self._report = flush, report
        self._steps = (0, 0)  # first and last of the profile that is being taken
        self._local: tempfile.TemporaryDirectory | None = None  # while one is being taken
        self._mark: jax.profiler.StepTraceAnnotation | None = None
        self._prepare(step + 1)

    def __call__(self, context: EvalContext) -> None:
        """Ends the profile after its last step; starts one if it is due."""
        if self._local is not None:
            self._end_mark()
            if context.step >= min(self._steps[1], context.recipe.train.steps):
                self._flush()
                self._stop()
        if context.step < context.recipe.train.steps:
            self._prepare(context.step + 1)

    def close(self) -> None:
        """Ends a profile that is being taken."""
        if self._local is not None:
            self._end_mark()
            self._stop()

    def _prepare(self, step: int) -> None:
        """Starts a profile if it is due, and marks what follows as this step in a profile."""
        if self._planned and step == self._planned[0]:
            self._start(step, self._planned[1])
        elif PROFILE_REQUESTS.is_open():
            self._start(step, step + STEPS_ON_REQUEST - 1)
        if self._local is not None:
            self._mark = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._mark.__enter__()

    def _start(self, first: int, last: int) -> None:
        PROFILE_REQUESTS.answer()
        if self._local is not None:
            return  # the profile that is being taken answers the request
        self._flush()
        self._steps = (first, last)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of a Python function would be recorded
        self._local = tempfile.TemporaryDirectory(prefix="ditfuse-profile-")
        try:
            jax.profiler.start_trace(self._local.name, profiler_options=options)
        except (OSError, RuntimeError) as error:  # RuntimeError: another profile is being taken
            self._give_up(error)

    def _stop(self) -> None:
        assert self._local is not None
        first, last = self._steps
        folder = self._run / FOLDER / "plugins" / "profile" / f"step-{first}"
        try:
            jax.profiler.stop_trace()
            (found,) = Path(self._local.name).rglob("*.xplane.pb")
            make_folder(folder)
            data = found.read_bytes()
            write_bytes(folder / f"process-{jax.process_index()}.xplane.pb", data)
        except (OSError, RuntimeError, UserError, ValueError) as error:
            self._give_up(error)
            return
        self._local.cleanup()
        self._local = None
        self._report(f"profile of steps {first} to {last}: xprof --logdir {self._run / FOLDER}")

    def _give_up(self, error: Exception) -> None:
        """A profile that fails does not end the run."""
        assert self._local is not None
        self._local.cleanup()
        self._local = None
        self._report(f"no profile from step {self._steps[0]}: {' '.join(str(error).split())}")

    def _end_mark(self) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
