"""The trainings and trials of a sweep, with their folders and commands, and which are done.

Only the contents of the folders decide what is done, so a training counts wherever it ran: on this
machine, as a task of a SLURM array, or in a pod.
"""

import collections
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax import flow, hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.files import write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.sampling_settings import option_name
from ditfuse_jax.sweep.definition import Arguments, Sweep
from ditfuse_jax.train.changes import changed_settings, value_text
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.pinned import pinned_weights
from ditfuse_jax.train.recipe import Config, load_recipe
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.settings import resolve
from ditfuse_jax.weights.identity import model_identity
from ditfuse_jax.weights.run_paths import CHECKPOINTS, check_storage, is_complete

# A run may be continued with other values of these keys.
# How a run is computed: `auto` is recorded as what it chose.
_CHANGEABLE = (
    "mesh",
    "data.workers",
    "data.read_threads",
    "data.cache",
    "model.attention",
    "model.remat",
    "train.writers",
    "train.keep_checkpoints",
    "train.data_timeout",
    "train.hang_timeout",
    "train.profile_steps",
    "train.dump_hlo",
)


@dataclasses.dataclass(frozen=True)
class Training:
    """One call of `ditfuse train`.

    Attributes:
      name: setting and seed, for messages.
      folder: the run folder.
      recipe: name or file, the argument of `--config`.
      overrides: all of them, including the seed.
      imports: extensions.
      gives_scores: whether its own evaluation at the last step gives the scores of the sweep.
    """

    name: str
    folder: Path
    recipe: str
    overrides: Arguments
    imports: Arguments = ()
    gives_scores: bool = True

    @property
    def command(self) -> Arguments:
        """The arguments of `ditfuse`."""
        fixed = ("train", "--config", self.recipe, "--workdir", str(self.folder))
        return (*fixed, *_import_options(self.imports), *self.overrides)

    @functools.cached_property
    def config(self) -> Config:
        """The resolved recipe.

        Raises:
          UserError: an override is wrong.
        """
        try:
            config = load_recipe(self.recipe, self.overrides, self.imports)
            resolve(config)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error
        return config

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return self.config.train.steps

    def records(self) -> list[dict[str, Any]]:
        """Returns the records of `metrics.jsonl` so far."""
        return read_metrics(RunFolder(self.folder).metrics)

    def last_scores(self) -> dict[str, float]:
        """Returns scalar -> value of the evaluations at the last step; empty if there is none.

        Names are without the leading `eval/`: `PSNR_clean`, or `NAME/PSNR_clean` of the evaluation
        NAME.  The scores of the mean image are left out: they do not depend on the training.
        """
        found = {
            name.removeprefix("eval/"): value
            for name, value in self._last_record().items()
            if name.startswith("eval/")
        }
        return {name: value for name, value in found.items() if not name.endswith("_of_mean")}

    def finished(self) -> bool:
        """Whether the checkpoint of the last step exists, and the evaluation if it is needed."""
        if not is_complete(self.folder / CHECKPOINTS / str(self.steps)):
            return False
        if not (self.gives_scores and self.config.evaluations):
            return True
        return any(name.startswith("eval/") for name in self._last_record())

    def _last_record(self) -> dict[str, Any]:
        """Returns everything recorded at the last step."""
        merged: dict[str, Any] = {}
        for record in self.records():
            if record.get("step") == self.steps:
                merged |= record
        return merged

    def check(self) -> None:
        """Checks the overrides, and that the folder was not started with other settings.

        Raises:
          UserError: an override is wrong, the scores would not be recorded, or a key differs; the
            message names it.
        """
        writers = self.config.train.writers
        if self.gives_scores and self.config.evaluations and "jsonl" not in writers:
            raise UserError(
                f"{self.name}: the sweep reads the scores of its trainings from what the writer "
                f"jsonl records: add it to train.writers, now {', '.join(writers) or 'empty'}"
            )
        current = self.config.to_dict()
        path = self.folder / "config.json"
        if not path.is_file():
            return
        try:
            started = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(started, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): remove {self.folder} to train it again"
            ) from error
        for key, (old, new) in changed_settings(started, current).items():
            if not key.startswith(_CHANGEABLE) and not _is_same(key, old, new):
                raise UserError(
                    f"{self.folder} was started with {key} = {value_text(old)}, now it is "
                    f"{value_text(new)}: choose another --workdir, or remove that folder"
                )


def _is_same(key: str, old: Any, new: Any) -> bool:
    """Whether an address on the Hub or a run of weights means the recorded commit or step."""
    if hub.is_address(old) and hub.is_address(new):
        return hub.pinned(new) == old
    return key == "weights" and pinned_weights(new) == old


@dataclasses.dataclass(frozen=True)
class Trial:
    """A setting with a seed.

    Attributes:
      training: the training of its model; None if the sweep evaluates a checkpoint.
      evaluation: the arguments of `ditfuse` that compute its scores; empty if the training's own
        evaluation does.
      folder: where these arguments write the scores.
      model: `model_identity` of the checkpoint that the sweep evaluates; "" if there is none.
    """

    setting: str
    seed: int
    training: Training | None
    evaluation: Arguments
    folder: Path
    model: str = ""

    @property
    def name(self) -> str:
        return f"{self.setting}, seed {self.seed}"

    def scores(self) -> dict[str, float] | None:
        """Returns metric -> value; None while there are no scores."""
        if self.training and not self.training.finished():
            return None
        if not self.evaluation:
            assert self.training is not None
            return self.training.last_scores()
        report = self.folder / "report.json"
        if not (report.is_file() and self._is_evaluated()) or self.is_outdated():
            return None
        content = json.loads(report.read_text(encoding="utf-8"))
        values = {name: content[name].get("fused") for name in METRICS if name in content}
        return {name: value for name, value in values.items() if value is not None}

    def is_outdated(self) -> bool:
        """Whether there are scores, but of what the checkpoint's path meant before.

        Scores of a checkpoint that does not exist any more are not outdated.
        """
        return self._is_evaluated() and bool(self.model) and self._stored()["model"] != self.model

    def invalidate_scores(self) -> None:
        """Marks the report as not belonging to these arguments, before it is overwritten."""
        self._arguments_file.unlink(missing_ok=True)

    def mark_scored(self) -> None:
        """Records that the report was computed with these arguments, of this model."""
        record = {"arguments": self.evaluation, "model": self.model}
        write_text(self._arguments_file, json.dumps(record) + "\n")

    def _is_evaluated(self) -> bool:
        """Whether there are scores that were computed with these arguments."""
        return self._stored()["arguments"] == list(self.evaluation)

    def _stored(self) -> dict[str, Any]:
        """Returns what `mark_scored` has recorded; without arguments if there is nothing."""
        if not self._arguments_file.is_file():
            return {"arguments": None, "model": ""}
        record = json.loads(self._arguments_file.read_text(encoding="utf-8"))
        # Version 0.1 recorded the arguments alone.
        return record if isinstance(record, dict) else {"arguments": record, "model": ""}

    @property
    def _arguments_file(self) -> Path:
        return self.folder / "arguments.json"


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """All trials of a sweep, ordered by setting and seed, below one folder."""

    folder: Path
    sweep: Sweep
    trials: list[Trial]

    @property
    def trainings(self) -> list[Training]:
        """The distinct trainings, in order."""
        return list(dict.fromkeys(trial.training for trial in self.trials if trial.training))


def make_plan(sweep: Sweep, folder: Path) -> SweepPlan:
    """Expands a sweep into trials and checks all of them.

    Raises:
      UserError: a setting, a key, a folder or an extension is wrong; the message names it.
    """
    folder = as_path(folder).absolute()
    if not sweep.checkpoint:
        check_storage(folder)
    # Recipes may use what the extensions register; a job may start in another folder.
    sweep = dataclasses.replace(sweep, imports=load_extensions(sweep.imports))
    slugs = _slugs([name for name, _ in sweep.items()])
    split = {name: _split((*sweep.overrides, *own)) for name, own in sweep.items()}
    shared = collections.Counter(trained for trained, _ in split.values())
    model = model_identity(sweep.checkpoint) if sweep.checkpoint else ""
    trainings: dict[tuple[Arguments, int], Training] = {}
    trials = []
    for (name, (trained, sampling)), seed in itertools.product(split.items(), sweep.seeds):
        if sweep.checkpoint:
            if trained:
                raise UserError(
                    f"{name}: {trained[0]} changes the training, and {sweep.checkpoint} is already "
                    f"trained: only {', '.join(sampling_options())} can be set"
                )
            training = None
        elif sweep.evaluate:
            label = name if shared[trained] == 1 else f"model of {name}"
            training = trainings.setdefault(
                (trained, seed), _training(sweep, folder, label, trained, seed)
            )
        elif shared[trained] > 1:
            raise UserError(
                f"{name}: another setting differs from it only in sampling, so both share a "
                "training: give the sweep evaluate=('--data', ...) to score them"
            )
        else:
            # The evaluation at the end of the training samples with these overrides.
            training = _training(sweep, folder, name, (*trained, *sampling), seed)
            trainings[trained, seed] = training
        scores = (training.folder if training else folder) / "scores" / f"{slugs[name]}-seed{seed}"
        evaluation = _evaluation(sweep, training, sampling, seed, scores)
        trials.append(Trial(name, seed, training, evaluation, scores, model))
    for training in trainings.values():
        training.check()
    return SweepPlan(folder, sweep, trials)


def sampling_options() -> dict[str, str]:
    """Returns the override of each sampling setting -> the option of `ditfuse evaluate`."""
    return {
        f"--config.sample.{field.name}": option_name(field.name)
        for field in dataclasses.fields(flow.SamplingConfig)
    }


def _training(sweep: Sweep, folder: Path, label: str, overrides: Arguments, seed: int) -> Training:
    run_folder = folder / "runs" / f"{_slug(label)}-seed{seed}"
    overrides = (*overrides, f"--config.seed={seed}")
    imports = tuple(sweep.imports)
    return Training(
        f"{label}, seed {seed}", run_folder, sweep.recipe, overrides, imports, not sweep.evaluate
    )


def _evaluation(
    sweep: Sweep, training: Training | None, sampling: Arguments, seed: int, output: Path
) -> Arguments:
    """Returns the call of `ditfuse evaluate`; empty if the training itself evaluates."""
    if not sweep.evaluate:
        return ()
    model = str(training.folder) if training else sweep.checkpoint
    options = sampling_options()
    flags = [f"{options[key]}={value}" for key, value in _pairs(sampling)]
    if not training:  # otherwise all seeds are evaluated with the same noise on the same scenes
        flags.insert(0, f"--seed={seed}")
    fixed = ("evaluate", "--checkpoint", model, "--output", str(output))
    return (*fixed, *_import_options(sweep.imports), *sweep.evaluate, *flags)


def _import_options(imports: Sequence[str]) -> Arguments:
    return tuple(f"--import={name}" for name in imports)


def _slugs(names: Sequence[str]) -> dict[str, str]:
    """Returns setting -> the name of its folders.

    Raises:
      UserError: two settings would share a folder.
    """
    owners: dict[str, str] = {}
    for name in names:
        other = owners.setdefault(_slug(name), name)
        if other != name:
            raise UserError(f"settings {other!r} and {name!r} would share a folder: rename one")
    return {name: slug for slug, name in owners.items()}


def _pairs(overrides: Arguments) -> list[tuple[str, str]]:
    """Returns keys and values; a later override of the same key replaces an earlier one."""
    split = (override.partition("=") for override in overrides)
    return list({key: value for key, _, value in split}.items())


def _split(overrides: Arguments) -> tuple[Arguments, Arguments]:
    """Separates overrides that change the training from those that change only the sampling."""
    overrides = tuple("=".join(pair) for pair in _pairs(overrides))
    options = sampling_options()
    sampling = tuple(item for item in overrides if item.partition("=")[0] in options)
    return tuple(item for item in overrides if item not in sampling), sampling


def _slug(name: str) -> str:
    """Returns a folder name: `2.5 / 2.0` becomes `2.5-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-.") or "setting"
