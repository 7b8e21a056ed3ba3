"""Weights & Biases and MLflow, without their servers: all starts of a run are one run there."""

import json
import struct
import time

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers import MultiWriter, make_writers
from ditfuse_jax.train.writers.mlflow_run import open_mlflow

CONFIG = {"optimizer": {"learning_rate": 0.1}, "data": {"task": {"name": "m3", "x": 2.0}}}


@pytest.fixture
def two_starts(tmp_path):
    """Records two starts of a run, the second from step 2 of three; returns its folder."""

    def record(writer):
        folder = tmp_path / "my run"
        folder.mkdir()
        said = []
        for steps in (range(1, 4), range(3, 5)):
            multi = MultiWriter(make_writers([writer], RunFolder(folder), CONFIG), said.append)
            for step in steps:
                multi.write(step, {"loss": 1.0 / step, "eval/PSNR_clean": 20.0})
            multi.close()
        assert said == []
        return folder

    return record


def wandb_records(data):
    """Reads an offline run: a header of 7 bytes, then records as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    assert len(data) < 32768  # one block
    data = data[7:]
    while data:
        _, length, kind = struct.unpack("<IHB", data[:7])
        assert kind == 1  # a whole record
        yield Record.FromString(data[7 : 7 + length])
        data = data[7 + length :]


def wandb_history(files):
    """Returns (step, loss, PSNR) of every record of files, and the names of their runs."""
    found, names = [], set()
    for file in files:
        for record in wandb_records(file.read_bytes()):
            if record.HasField("run"):
                names.add(record.run.display_name)
            if record.HasField("history"):
                items = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                found.append((items["step"], items["loss"], items["eval/PSNR_clean"]))
    return found, names


@pytest.mark.processes
def test_wandb_resumes_one_run_whose_steps_may_go_back(two_starts, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = two_starts("wandb")
    run_id = (folder / "wandb_run_id").read_text().strip()
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{run_id}.wandb"] * 2
    # The service writes the end of a file after `finish` has returned.
    end = time.monotonic() + 20
    found, names = wandb_history(files)
    while len(found) < 5 and time.monotonic() < end:
        time.sleep(0.2)
        found, names = wandb_history(files)
    assert found == [(s, 1.0 / s, 20.0) for s in (1, 2, 3, 3, 4)]
    assert names == {"my run"}


def test_mlflow_resumes_one_run(two_starts, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = two_starts("mlflow")
    client = mlflow.MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("ditfuse")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == (folder / "mlflow_run_id").read_text().strip()
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    assert run.data.params == {
        "optimizer.learning_rate": "0.1",
        "data.task": '"m3"',
        "data.task.x": "2.0",
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, 1.0 / s) for s in (1, 2, 3, 3, 4)]
    assert len(client.get_metric_history(run.info.run_id, "eval/PSNR_clean")) == 5


def test_a_run_that_failed_is_not_finished_in_mlflow_until_it_is_continued(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    for failed, status in ((True, "FAILED"), (False, "FINISHED")):
        multi = MultiWriter(make_writers(["mlflow"], RunFolder(tmp_path), CONFIG))
        multi.write(1, {"loss": 1.0})
        if failed:
            multi.fail()
        multi.close()
        run = client.get_run((tmp_path / "mlflow_run_id").read_text().strip())
        assert run.info.status == status


def test_a_server_that_does_not_answer_ends_nothing(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = []
    multi = MultiWriter(make_writers(["mlflow"], RunFolder(tmp_path), CONFIG), said.append)
    for step in range(3):
        multi.write(step, {"loss": 1.0})
    multi.close()
    (line,) = said
    assert line.startswith("writer mlflow fails, training goes on")


@pytest.mark.parametrize("writer", ["wandb", "mlflow"])
def test_a_service_that_is_not_installed_is_an_error_that_names_the_extra(
    tmp_path, monkeypatch, writer
):
    monkeypatch.setitem(__import__("sys").modules, writer, None)
    with pytest.raises(UserError, match=rf"{writer} is not installed.*ditfuse-jax\[{writer}\]"):
        make_writers([writer], RunFolder(tmp_path), CONFIG)


def test_mlflow_of_a_run_in_a_bucket_needs_a_server(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="name its server with MLFLOW_TRACKING_URI"):
        open_mlflow(RunFolder("gs://bucket/run"), CONFIG)
