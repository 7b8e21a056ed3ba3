"""A model that is evaluated: its weights, sampling settings and output folder."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.exports import json_text
from ditfuse_jax.files import make_folder, prepare_file, write_text
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.paths import as_path
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.refinement import check_refine
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_checkpoint
from ditfuse_jax.train.run_folder import package_versions
from ditfuse_jax.weights import open_checkpoint


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A loaded model.

    Attributes:
      fuser: the model with its sampling settings.
      folder: for the results; created with the first file.
    """

    fuser: StackFuser
    folder: Path

    def facts(self, data: str) -> dict[str, Any]:
        """Returns what is needed to repeat the evaluation on a data source, except `versions`."""
        return {
            "checkpoint": self.fuser.trained.name,
            "data": data,
            **self.fuser.sampling.to_dict(),
        }

    def write(self, name: str, data: str, results: Mapping[str, Any]) -> Path:
        """Writes results on a data source as JSON, with the `facts` and versions under "run".

        Returns:
          The path of the file.

        Raises:
          UserError: the folder cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / name
        run = self.facts(data) | {"versions": package_versions()}
        write_text(path, json_text({"run": run} | dict(results)))
        return path


def open_model(
    checkpoint: Path,
    output: Path | None,
    sampling: Mapping[str, Any] | None,
    adapters: Sequence[WeightedAdapter],
    base: Path | None,
    quantize: str | None = None,
    files: Sequence[str] = (),
    *,
    tasks: Iterable[str],
) -> EvaluatedModel:
    """Loads a model; the other arguments are those of `evaluate`.

    Args:
      files: that will be written into the folder, which is made before the model is loaded.
      tasks: see `sampled`.

    Raises:
      UserError: no model there, bad settings, no output folder for a model without a run, or a
        folder or file that cannot be written.
    """
    opened = open_checkpoint(checkpoint, base=base)
    if output is None and (opened.kind != "run" or hub.is_address(checkpoint)):
        raise UserError(
            f"{checkpoint} is not a run folder: name a folder for the results with --output"
        )
    folder = opened.path if output is None else as_path(output)
    for name in files:
        prepare_file(folder / name)
    trained = load_checkpoint(opened, adapters, quantize=quantize)
    return EvaluatedModel(StackFuser(trained, sampled(trained, sampling, tasks)), folder)


def sampled(
    trained: TrainedModel, sampling: Mapping[str, Any] | None, tasks: Iterable[str]
) -> SamplingConfig:
    """Returns a model's sampling settings with those that a user gives.

    Args:
      trained: the model.
      sampling: settings that differ from its own; see `SamplingConfig.override`.
      tasks: whose standard prompts images are fused with, among other prompts.

    Raises:
      UserError: a bad setting, or one that has no effect on any of the tasks.
    """
    config = trained.sampling.override(sampling or {})
    check_refine(sampling or {}, config, [make_instruction(None, 2, config, t) for t in tasks])
    return config
