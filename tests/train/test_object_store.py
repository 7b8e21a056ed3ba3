"""Runs in a bucket: killed processes, stores that fail in the middle of a save, requests."""

import functools
import json
import signal
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.storage import retries
from ditfuse_jax.train import train
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.state import TrainState
from ditfuse_jax.weights import open_checkpoint
from ditfuse_jax.weights.run_paths import CHECKPOINTS, find_checkpoint, is_complete

pytestmark = [pytest.mark.processes, pytest.mark.medium]  # the server


LOCKED = json.dumps({"error": {"code": 403, "message": "the bucket is locked"}}).encode()


@pytest.fixture(autouse=True)
def _new_outage(monkeypatch):
    monkeypatch.setattr(retries, "_last_reports", {})


def state(step: int) -> TrainState:
    weights = {"dense": {"kernel": jnp.arange(40_000.0).reshape(200, 200) + step}}
    return TrainState(
        step=jnp.asarray(step),
        parameters=weights,
        optimizer={"mu": jax.tree.map(jnp.sin, weights)},
        ema=None,
        skipped=jnp.asarray(0),
        grad_norm_ema=jnp.asarray(1.0),
    )


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def check_saved(run: Path, step: int) -> None:
    """Checks that a step can be read in full by another manager."""
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest == step
        found = checkpoints.restore(step, abstract(state(step)))
    for expected, value in zip(jax.tree.leaves(state(step)), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(expected, value)


def refuse_for(seconds: float, proxy) -> None:
    threading.Timer(0.3, proxy.refuse).start()
    threading.Timer(0.3 + seconds, proxy.listen).start()


def lose_every_fourth_answer(proxy) -> None:
    writes = []

    def decide(request):
        if request.kind == "write":
            writes.append(request)
            return "lose" if len(writes) % 4 == 0 else None
        return None

    proxy.decide = decide


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda proxy: proxy.fail_for(4, 503), id="503"),
        pytest.param(lambda proxy: proxy.fail_for(4, 503, ("write",)), id="503 to writes"),
        pytest.param(functools.partial(refuse_for, 4), id="gone"),
        pytest.param(lose_every_fourth_answer, id="answers lost"),
        pytest.param(
            lambda proxy: proxy.fail_for(60, 503), id="503 for a minute", marks=pytest.mark.slow
        ),
        pytest.param(lambda proxy: proxy.stall_for(20), id="20 s", marks=pytest.mark.slow),
        pytest.param(
            functools.partial(refuse_for, 60), id="gone for a minute", marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.slow
def test_a_store_that_fails_in_the_middle_of_a_save_loses_nothing_and_is_told_in_one_line(
    fault, gcs, capsys
):
    run = as_path(f"{gcs.bucket()}/run")
    with Checkpoints(run, keep=2) as checkpoints:
        checkpoints.save(1, state(1), {"a": 1})
        checkpoints.wait()
        fault(gcs.proxy)
        checkpoints.save(2, state(2), {"a": 1})
        checkpoints.wait()
        assert checkpoints.steps == [1, 2]
    gcs.proxy.reset()
    check_saved(run, 2)
    told = f"storage: {str(run).removesuffix('/run')}"
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith(told)]
    assert "nothing is lost" in line


def test_a_save_that_is_forbidden_is_one_line_and_leaves_the_step_before(gcs):
    run = as_path(f"{gcs.bucket()}/run")
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(1, state(1), {"a": 1})
    checkpoints.wait()
    gcs.proxy.fail_for(600, 403, ("write",), text="no storage.objects.create access")
    with pytest.raises(UserError, match="cannot write a checkpoint in gs://") as caught:
        checkpoints.save(2, state(2), {"a": 1})
        checkpoints.wait()
    assert "no storage.objects.create access" in str(caught.value)
    assert "earlier checkpoints are intact" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    gcs.proxy.reset()
    check_saved(run, 1)


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(gcs):
    run = as_path(f"{gcs.bucket()}/run")
    with Checkpoints(run) as checkpoints:
        checkpoints.save(1, state(1), {"a": 1})
        checkpoints.save(2, state(2), {"a": 1})
    with Checkpoints(run) as checkpoints:
        # What tensorstore reads; other reads are told as they are.
        gcs.proxy.decide = lambda request: (403, LOCKED) if "ocdbt" in request.url else None
        with pytest.raises(UserError, match="cannot be read") as caught:
            checkpoints.restore(2, abstract(state(2)))
    assert "the bucket is locked" in str(caught.value) and "\n" not in str(caught.value)
    assert "remove" not in str(caught.value) and "damaged" not in str(caught.value)
    gcs.proxy.reset()
    check_saved(run, 2)


@pytest.mark.slow
def test_a_training_whose_second_save_is_forbidden_ends_with_one_line_and_the_first(gcs, start):
    run = f"{gcs.bucket()}/run"

    def decide(request):
        second = request.kind == "write" and "checkpoints%2F4%2F" in request.url
        return (403, LOCKED) if second else None

    gcs.proxy.decide = decide
    options = ("--config.train.steps=8", "--config.train.checkpoint_every=2")
    process = start(run, *options)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 2, said
    last = said.splitlines()[-1]
    assert last.startswith("ditfuse train: error: cannot write a checkpoint in gs://"), said
    assert "the bucket is locked" in last and "Traceback" not in said
    assert find_checkpoint(as_path(run)) == (as_path(run), 2)


def test_an_interrupted_save_is_no_checkpoint_and_is_removed_at_the_next_start(gcs):
    run = as_path(f"{gcs.bucket()}/run")
    with Checkpoints(run) as checkpoints:
        checkpoints.save(1, state(1), {"a": 1})
        checkpoints.save(2, state(2), {"a": 1})
    (run / CHECKPOINTS / "2" / "commit_success.txt").unlink()
    assert find_checkpoint(run) == (run, 1)
    check_saved(run, 1)
    assert not (run / CHECKPOINTS / "2").exists()


def test_steps_between_saves_make_no_requests_and_a_save_a_bounded_number(gcs, tiny):
    times, run = {}, as_path(f"{gcs.bucket()}/run")

    def note(context):
        times[context.step] = time.time()

    config = tiny("--config.train.steps=40", "--config.train.checkpoint_every=20")
    begin = time.time()
    train(config, run, callbacks=[note], evaluations=(), quiet=True)
    made = gcs.proxy.requests

    def between(first: float, last: float, *skipped: str) -> list[str]:
        found = [r for r in made if first <= r.time < last]
        return [r.url for r in found if not any(name in r.url for name in skipped)]

    # Threads write the lock and the metrics and read bad records, now and then.
    background = ("lock", "metrics", "tensorboard", "bad_records", "uploadType=multipart")
    assert between(times[2], times[19], *background) == []
    starting, saving = len(between(begin, times[1])), len(between(times[20], time.time()))
    print(f"requests: {starting} before the first step, {saving} for two saves and the end")
    assert starting < 80
    assert saving < 2 * 250


@pytest.mark.slow
def test_one_process_goes_on_when_the_other_is_killed_as_if_nothing_had_happened(
    gcs, start_group, start, tmp_path
):
    run, whole = f"{gcs.bucket()}/run", tmp_path / "whole"
    every = ("--config.train.checkpoint_every=2",)
    pair = start_group(run, 2, *every, "--config.train.steps=5000")
    deadline = time.monotonic() + 300
    while not is_complete(as_path(run) / CHECKPOINTS / "4"):
        assert all(p.poll() is None for p in pair), [p.communicate()[1] for p in pair]
        assert time.monotonic() < deadline
        time.sleep(0.5)
    pair[1].send_signal(signal.SIGKILL)
    said = [p.communicate(timeout=240)[1] for p in pair]
    assert pair[0].returncode not in (0, 1, 2), said
    saved = find_checkpoint(as_path(run))[1]
    last = f"--config.train.steps={saved + 3}"
    # Two devices in one process add the same two parts of each gradient.
    alone = {"JAX_NUM_CPU_DEVICES": "2"}
    for folder in (run, whole):
        process = start(folder, *every, last, environment=alone)
        assert process.wait(timeout=300) == 0, process.communicate()[1]
    found, expected = (
        {r["step"]: r["loss"] for r in read_metrics(as_path(f / "metrics.jsonl")) if "loss" in r}
        for f in (as_path(run), whole)
    )
    assert sorted(found) == list(range(1, saved + 4))
    assert found == expected
    one, other = open_checkpoint(run), open_checkpoint(whole)
    assert one.step == other.step == saved + 3
    for path in other.shapes():
        np.testing.assert_array_equal(one.read_leaf(path), other.read_leaf(path))
