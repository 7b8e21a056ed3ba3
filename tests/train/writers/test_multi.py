"""Several writers as one: a writer that fails is reported once and ends nothing."""

import contextlib

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.loop import _close_at_end
from ditfuse_jax.train.writers import WRITERS, MultiWriter, make_writers


class Recording:
    """A writer that keeps what it gets, and fails at some steps and when it is closed."""

    def __init__(self, fails=()):
        self.fails, self.steps, self.closed = fails, [], False

    def write(self, step, scalars):
        if step in self.fails:
            raise OSError(28, "No space left on device")
        self.steps.append(step)

    def close(self):
        self.closed = True
        if "close" in self.fails:
            raise RuntimeError


def test_a_failing_writer_is_reported_once_and_tried_again_while_the_others_go_on():
    said = []
    bad, good = Recording(fails=(2, 3, "close")), Recording()
    writer = MultiWriter([bad, good], said.append)
    for step in range(1, 6):
        writer.write(step, {"loss": 1.0})
    writer.close()
    assert bad.steps == [1, 4, 5]
    assert good.steps == [1, 2, 3, 4, 5]
    assert bad.closed and good.closed
    assert said == [
        "writer Recording fails, training goes on and metrics may be missing there: OSError: "
        "[Errno 28] No space left on device"
    ]


def test_each_failing_writer_is_reported_and_errors_without_text_are_named():
    said = []
    writer = MultiWriter([Recording(("close",)), Recording((1,))], said.append)
    writer.write(1, {})
    writer.close()
    assert len(said) == 2
    assert said[1].endswith("metrics may be missing there: RuntimeError")


def test_ctrl_c_is_no_failure_of_a_writer():
    class Interrupted(Recording):
        def write(self, step, scalars):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MultiWriter([Interrupted()]).write(1, {})


def test_a_writer_that_cannot_be_opened_is_left_out_with_a_line(tmp_path):
    said, opened = [], Recording()
    WRITERS.register(f"fails_{tmp_path.name}", lambda run, config: int(""))
    WRITERS.register(f"opens_{tmp_path.name}", lambda run, config: opened)
    names = [f"{word}_{tmp_path.name}" for word in ("fails", "opens")]
    assert make_writers(names, None, {}, said.append) == [opened]
    (line,) = said
    assert line.startswith(f"writer fails_{tmp_path.name} fails, training goes on")
    assert not opened.closed


def test_a_writer_that_the_user_must_install_is_an_error_and_closes_the_others(tmp_path):
    def missing(run, config):
        raise UserError("wandb is not installed: pip install 'ditfuse-jax[wandb]'")

    opened = Recording()
    WRITERS.register(f"missing_{tmp_path.name}", missing)
    WRITERS.register(f"before_{tmp_path.name}", lambda run, config: opened)
    with pytest.raises(UserError, match="is not installed"):
        make_writers([f"{word}_{tmp_path.name}" for word in ("before", "missing")], None, {})
    assert opened.closed


@pytest.mark.parametrize("error", [None, ValueError("a bug")])
def test_writers_that_want_to_know_are_told_before_they_are_closed_that_a_run_failed(error):
    class Telling(Recording):
        def fail(self):
            self.steps.append("closed already" if self.closed else "failed")

    telling, other = Telling(), Recording()
    with contextlib.suppress(ValueError), contextlib.ExitStack() as stack:
        _close_at_end(MultiWriter([telling, other]), stack)
        if error:
            raise error
    assert telling.steps == (["failed"] if error else [])
    assert telling.closed and other.closed
