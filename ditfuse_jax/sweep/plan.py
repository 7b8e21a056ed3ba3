"""What a sweep comes to: trainings and runs, their folders and commands, and what is done.

Nothing but the folders tells what is done, so a training finished anywhere counts: here, as a task
of a SLURM array, or in a pod.
"""

import collections
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax import flow
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.files import write_text
from ditfuse_jax.flow.sampling_config import option_name
from ditfuse_jax.sweep.definition import Sweep, Words
from ditfuse_jax.train.recipe import Config, load_recipe, to_json
from ditfuse_jax.train.run_folder import RunFolder, read_metrics
from ditfuse_jax.train.settings import resolve
from ditfuse_jax.weights.run_paths import CHECKPOINTS

# A run may continue with others of these.
_CHANGEABLE = ("mesh", "data.workers")


@dataclasses.dataclass(frozen=True)
class Training:
    """One call of `ditfuse train`.

    Attributes:
      name: of the setting and the seed.
      folder: the run folder.
      words: all overrides.
    """

    name: str
    folder: Path
    recipe: str
    words: Words

    @property
    def command(self) -> Words:
        """What comes after `ditfuse`."""
        return ("train", "--config", self.recipe, "--workdir", str(self.folder), *self.words)

    @functools.cached_property
    def config(self) -> Config:
        """The resolved recipe.

        Raises:
          UserError: a word is wrong.
        """
        try:
            config = load_recipe(self.recipe, self.words)
            resolve(config)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error
        return config

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.config.train.steps

    def records(self) -> list[dict[str, Any]]:
        """What the run has recorded so far."""
        return read_metrics(RunFolder(self.folder).metrics)

    def last_scores(self) -> dict[str, float]:
        """Metric -> value of the evaluation at the last step; empty where there is none."""
        found = {name.removeprefix("eval/"): value for name, value in self._last_record().items()}
        return {name: value for name, value in found.items() if name in METRICS}

    def finished(self) -> bool:
        """Whether the last step is saved and evaluated."""
        evaluated = any(name.startswith("eval/") for name in self._last_record())
        return evaluated and (self.folder / CHECKPOINTS / str(self.steps)).is_dir()

    def _last_record(self) -> dict[str, Any]:
        """All that was recorded of the last step."""
        whole: dict[str, Any] = {}
        for record in self.records():
            if record.get("step") == self.steps:
                whole |= record
        return whole

    def check(self) -> None:
        """Refuses wrong words, and a folder that another setting began.

        Raises:
          UserError: naming the first key that differs.
        """
        current = _flat(json.loads(to_json(self.config)))
        path = self.folder / "config.json"
        if not path.is_file():
            return
        begun = _flat(json.loads(path.read_text(encoding="utf-8")))
        for key, value in current.items():
            if key in begun and begun[key] != value and not key.startswith(_CHANGEABLE):
                raise UserError(
                    f"{self.folder} was begun with {key} = {begun[key]!r}, now it is {value!r}: "
                    "choose another --workdir, or remove that folder"
                )


@dataclasses.dataclass(frozen=True)
class Run:
    """A setting with a seed.

    Attributes:
      training: whose model it uses; None for the sweep's own checkpoint.
      scoring: what comes after `ditfuse`, empty where the training's own scores count.
      folder: of the scores, if scored.
    """

    setting: str
    seed: int
    training: Training | None
    scoring: Words
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.setting}, seed {self.seed}"

    def scores(self) -> dict[str, float] | None:
        """Metric -> value; None while there are none."""
        if self.training and not self.training.finished():
            return None
        if not self.scoring:
            assert self.training is not None
            return self.training.last_scores()
        report, words = self.folder / "report.json", self.folder / "words.json"
        if not (report.is_file() and words.is_file()):
            return None
        if json.loads(words.read_text(encoding="utf-8")) != list(self.scoring):
            return None  # scored on something else
        content = json.loads(report.read_text(encoding="utf-8"))
        values = {name: content[name].get("fused") for name in METRICS if name in content}
        return {name: value for name, value in values.items() if value is not None}

    def unscored(self) -> None:
        """Forgets of what words the report is, before another takes its place."""
        (self.folder / "words.json").unlink(missing_ok=True)

    def scored(self) -> None:
        """Notes that the report is the one of these words."""
        write_text(self.folder / "words.json", json.dumps(self.scoring) + "\n")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of a sweep below a folder, settings in their order, seeds within."""

    folder: Path
    sweep: Sweep
    runs: list[Run]

    @property
    def trainings(self) -> list[Training]:
        """Each once, in order."""
        return list(dict.fromkeys(run.training for run in self.runs if run.training))


def make_plan(sweep: Sweep, folder: Path) -> Plan:
    """Works a sweep out and checks all of it.

    Raises:
      UserError: naming the setting, the key or the folder that is wrong.
    """
    folder = folder.expanduser().absolute()
    slugs = _slugs([name for name, _ in sweep.items()])
    split = {name: _split((*sweep.overrides, *words)) for name, words in sweep.items()}
    shared = collections.Counter(learnt for learnt, _ in split.values())
    trainings: dict[tuple[Words, int], Training] = {}
    runs = []
    for (name, (learnt, sampling)), seed in itertools.product(split.items(), sweep.seeds):
        if sweep.checkpoint:
            if learnt:
                raise UserError(
                    f"{name}: {learnt[0]} changes a training, and {sweep.checkpoint} is trained "
                    f"already: only {', '.join(sampling_options())} can be set"
                )
            training = None
        elif sweep.evaluate:
            label = name if shared[learnt] == 1 else f"model of {name}"
            training = trainings.setdefault(
                (learnt, seed), _training(sweep, folder, label, learnt, seed)
            )
        elif shared[learnt] > 1:
            raise UserError(
                f"{name}: another setting differs from it only in sampling, so they share a "
                "training: give the sweep evaluate=('--data', ...), on what they are scored"
            )
        else:
            # The evaluation at the end of the training samples by these words.
            training = _training(sweep, folder, name, (*learnt, *sampling), seed)
            trainings[learnt, seed] = training
        scores = (training.folder if training else folder) / "scores" / f"{slugs[name]}-seed{seed}"
        scoring = _scoring(sweep, training, sampling, seed, scores)
        runs.append(Run(name, seed, training, scoring, scores))
    for training in trainings.values():
        training.check()
    return Plan(folder, sweep, runs)


def sampling_options() -> dict[str, str]:
    """Override of a sampling setting -> the option of `ditfuse evaluate` that sets it."""
    return {
        f"--config.sample.{field.name}": option_name(field.name)
        for field in dataclasses.fields(flow.SamplingConfig)
    }


def _training(sweep: Sweep, folder: Path, label: str, words: Words, seed: int) -> Training:
    run_folder = folder / "runs" / f"{_slug(label)}-seed{seed}"
    words = (*words, f"--config.seed={seed}")
    return Training(f"{label}, seed {seed}", run_folder, sweep.recipe, words)


def _scoring(
    sweep: Sweep, training: Training | None, sampling: Words, seed: int, output: Path
) -> Words:
    """Words of `ditfuse evaluate`; none where the training's own scores count."""
    if not sweep.evaluate:
        return ()
    model = str(training.folder) if training else sweep.checkpoint
    options = sampling_options()
    flags = [f"{options[key]}={value}" for key, value in _pairs(sampling)]
    if not training:  # trainings of all seeds are scored with the same noise on the same scenes
        flags.insert(0, f"--seed={seed}")
    return ("evaluate", "--checkpoint", model, "--output", str(output), *sweep.evaluate, *flags)


def _slugs(names: Sequence[str]) -> dict[str, str]:
    """Setting -> the name of its folders.

    Raises:
      UserError: two would be the same.
    """
    owners: dict[str, str] = {}
    for name in names:
        other = owners.setdefault(_slug(name), name)
        if other != name:
            raise UserError(f"settings {other!r} and {name!r} would share a folder: rename one")
    return {name: slug for slug, name in owners.items()}


def _pairs(words: Words) -> list[tuple[str, str]]:
    """Keys and values; of a key given twice the last counts."""
    return list({key: value for key, _, value in (word.partition("=") for word in words)}.items())


def _split(words: Words) -> tuple[Words, Words]:
    """Words that decide what is learnt, and those that decide only how it is sampled."""
    words = tuple("=".join(pair) for pair in _pairs(words))
    options = sampling_options()
    sampling = tuple(word for word in words if word.partition("=")[0] in options)
    return tuple(word for word in words if word not in sampling), sampling


def _slug(name: str) -> str:
    """The name as a folder's: `2.5 / 2.0` is `2.5-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-.") or "setting"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
