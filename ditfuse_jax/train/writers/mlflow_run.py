"""Metrics as a run of MLflow."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.optional import import_optional
from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.changes import flat_settings
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.background import Background
from ditfuse_jax.train.writers.writer import Writer

# If MLFLOW_EXPERIMENT_NAME does not name one.
_EXPERIMENT = "ditfuse"
_URI = "MLFLOW_TRACKING_URI"
# Limits of the service for one request.
_MOST_PARAMETERS = 100
_MOST_CHARACTERS = 500


class MlflowWriter:
    """Logs to a run that all starts of a training share."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any]):
        """Starts or resumes the run at `MLFLOW_TRACKING_URI`, by default in the folder `mlflow`."""
        mlflow = import_optional("mlflow", "mlflow")
        entities = import_optional("mlflow.entities", "mlflow")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # MLflow wants consent for its older store, files, which needs no server.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = os.environ.get(_URI) or (run.path / "mlflow").absolute().as_uri()
        self._metric, parameter = entities.Metric, entities.Param
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._new, self._status = False, "FINISHED"

        def create() -> str:
            self._new = True
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            return self._client.create_run(experiment, run_name=run.path.name).info.run_id

        self._id = run.writer_id("mlflow", create)
        if self._new:  # a parameter cannot be changed later
            texts = {key: json.dumps(value) for key, value in flat_settings(config).items()}
            parameters = [parameter(key, x[:_MOST_CHARACTERS]) for key, x in texts.items()]
            for start in range(0, len(parameters), _MOST_PARAMETERS):
                batch = parameters[start : start + _MOST_PARAMETERS]
                self._client.log_batch(self._id, params=batch)
        else:
            self._client.update_run(self._id, status="RUNNING")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in scalars.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def flush(self) -> None:
        """Does nothing: each record is sent at once."""

    def fail(self) -> None:
        """See `Writer`."""
        self._status = "FAILED"

    def close(self) -> None:
        """See `Writer`."""
        self._client.set_terminated(self._id, status=self._status)


def open_mlflow(run: RunFolder, config: Mapping[str, Any]) -> Writer:
    """Opens the writer `mlflow`.

    Raises:
      UserError: MLflow is not installed, or has no place for its files.
    """
    import_optional("mlflow", "mlflow")
    if is_remote(run.path) and _URI not in os.environ:
        raise UserError(
            f"writer mlflow: name its server with {_URI}: it cannot write to {run.path}"
        )
    return Background("mlflow", lambda: MlflowWriter(run, config))
