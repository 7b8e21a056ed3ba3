"""Recipes: configuration as Python files, locked, checked before anything is allocated.

A recipe is a file with `get_config(arg)` that changes what `default_config` sets.  `resolve` turns
the locked `ConfigDict` into the typed settings that the code takes.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import Guidance, time_sampler
from ditfuse_jax.model import ModelConfig, preset
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.remat import NAMES as REMAT_NAMES
from ditfuse_jax.parallel import MeshConfig
from ditfuse_jax.pipeline import Encoder, Ingredient, Stream
from ditfuse_jax.prompts import TextSlots, load_tokenizer
from ditfuse_jax.resources import resource
from ditfuse_jax.tasks import TASKS
from ditfuse_jax.train.optimizer import OptimizerConfig, learning_rate
from ditfuse_jax.train.step import StepConfig


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When things happen, in steps; 0 means never.

    Attributes:
      steps: updates in all.
      log_every: metrics lines.
      checkpoint_every: saves; the last step is always saved.
      keep_checkpoints: how many of the newest are kept.
      evaluate_every: evaluations with sample pictures; the last step is always evaluated.
    """

    steps: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    evaluate_every: int


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Defaults for making images with the trained model.

    Attributes:
      steps: Euler steps.
      shift: time shift.
      guidance: scales.
      negative_prompt: text of the branch without images.
      text_slots: room for prompts; padding costs little here, so it is larger than in training.
      max_side: longer images are scaled down to this many pixels.
    """

    steps: int
    shift: float
    guidance: Guidance
    negative_prompt: str
    text_slots: tuple[int, int, int]
    max_side: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated during training: `count` examples of a task on held-out images."""

    source: str
    task: str
    count: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a run, typed and checked."""

    seed: int
    model: ModelConfig
    stream: Stream
    step: StepConfig
    optimizer: OptimizerConfig
    schedule: Schedule
    sampling: Sampling
    evaluation: Evaluation
    mesh: MeshConfig


# A `ConfigDict`: what its attributes hold is known only at run time.
Config = Any


def default_config(model_preset: str) -> Config:
    """The settings every recipe starts from."""
    config: Config = ConfigDict()
    config.seed = 0
    config.model = ConfigDict(preset(model_preset).to_dict())
    config.data = ConfigDict(
        {
            "mixture": {"photos": {"source": "samples:train", "task": "m3", "weight": 1.0}},
            "crop": (256, 256),
            "batch_size": 64,
            "workers": 8,
            "tokenizer": "",
            "condition_dropout": 0.1,
        }
    )
    config.flow = ConfigDict({"time_sampler": "logit_normal", "draws": 1})
    config.optimizer = ConfigDict(
        {
            "learning_rate": 1e-4,
            "schedule": "cosine",
            "warmup_steps": 1000,
            "weight_decay": 0.0,
            "b1": 0.9,
            "b2": 0.99,
            "clip": 1.0,
        }
    )
    config.train = ConfigDict(
        {
            "steps": 100_000,
            "accumulation": 1,
            "ema_decay": 0.9999,
            "spike_factor": 10.0,
            "log_every": 50,
            "checkpoint_every": 1000,
            "keep_checkpoints": 2,
            "evaluate_every": 5000,
        }
    )
    config.evaluation = ConfigDict({"source": "samples:heldout", "task": "m3", "count": 16})
    config.sample = ConfigDict(
        {
            "steps": 50,
            "shift": 1.0,
            "guidance": 2.0,
            "image_guidance": 1.6,
            "negative_prompt": "<cfg>",
            "text_slots": (64, 32, 160),
            "max_side": 1024,
        }
    )
    config.mesh = ConfigDict(dataclasses.asdict(MeshConfig()))
    return config


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Config:
    """Loads a recipe, applies `--config.a.b=value` overrides and locks it.

    Args:
      name: a shipped recipe (`nano_m3`), or the path of a Python file; `name:argument` hands
        `argument` to its `get_config`.
      overrides: command-line words.

    Raises:
      UserError: there is no such recipe, it fails, or an override names no key or has a wrong type.
    """
    name, _, argument = name.partition(":")
    path = Path(name) if name.endswith(".py") else resource_or_error(name)
    config = _run_get_config(path, argument)
    config.lock()
    return apply_overrides(config, overrides)


def resource_or_error(name: str) -> Path:
    """The shipped recipe's file."""
    known = sorted(p.stem for p in resource("configs").glob("[!_]*.py"))
    if name not in known:
        raise UserError(
            f"recipe {name!r} is unknown; choose from {', '.join(known)}, or give the path of a "
            "Python file with get_config"
        )
    return resource("configs", f"{name}.py")


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Applies `--config.a.b=value` words to a copy of a locked config.

    Raises:
      UserError: a word is not an override, names no key, or its value has a wrong type.
    """
    # The last word on a key counts; absl would join tuples given twice.
    last = {word.partition("=")[0]: word for word in overrides}
    words = ["ditfuse", *last.values()]
    parser = flags.FlagValues()
    stray = [word for word in overrides if not word.startswith("--config.")]
    if stray:
        raise UserError(
            f"unknown argument {stray[0]!r}; overrides look like --config.train.steps=9"
        )
    try:
        config = config.copy_and_resolve_references()
        config_flags.DEFINE_config_dict("config", config, flag_values=parser, sys_argv=words)
        parser(words)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # str() of a KeyError is its representation, quotes and escapes included.
        reason = " ".join(str(error.args[0] if error.args else error).split())
        what = "no such key: " if isinstance(error, AttributeError | KeyError) else ""
        raise UserError(f"cannot apply {' '.join(overrides)}: {what}{reason}") from error
    config = parser["config"].value
    config.lock()
    return config


def resolve(config: Config) -> Recipe:
    """Checks every section and returns the typed settings.

    Raises:
      UserError: naming the bad or conflicting key.
    """
    config = ConfigDict(config)  # also from a checkpoint's plain dict
    model = ModelConfig.from_dict(config.model.to_dict())
    _choice("model.attention", model.attention, IMPLEMENTATIONS)
    _choice("model.remat", model.remat, REMAT_NAMES)
    data, sample, train = config.data, config.sample, config.train
    if not isinstance(data.crop, tuple | list) or len(data.crop) != 2:
        raise UserError(f"data.crop must be (height, width), not {data.crop}")
    height, width = data.crop
    for side in (height, width):
        if side < 1 or side % model.size_multiple:
            raise UserError(
                f"data.crop {tuple(data.crop)} must be multiples of {model.size_multiple} pixels"
            )
    encoder = Encoder(
        TextSlots(*model.text_slots), data.tokenizer or None, float(data.condition_dropout)
    )
    stream = Stream(
        mixture=[
            _section(f"data.mixture.{name}", Ingredient, part)
            for name, part in sorted(data.mixture.items())
        ],
        crop=(height, width),
        batch_size=data.batch_size,
        seed=config.seed,
        encoder=encoder,
        workers=data.workers,
    )
    step = StepConfig(
        seed=config.seed,
        time_sampler=config.flow.time_sampler,
        draws=config.flow.draws,
        accumulation=train.accumulation,
        ema_decay=train.ema_decay,
        spike_factor=train.spike_factor,
    )
    time_sampler(step.time_sampler)
    schedule = Schedule(**{f.name: train[f.name] for f in dataclasses.fields(Schedule)})
    _check_ranges(config)
    optimizer = _section("optimizer", OptimizerConfig, config.optimizer)
    learning_rate(optimizer, schedule.steps)
    sampling = Sampling(
        steps=sample.steps,
        shift=sample.shift,
        guidance=Guidance(sample.guidance, sample.image_guidance),
        negative_prompt=sample.negative_prompt,
        text_slots=tuple(sample.text_slots),
        max_side=sample.max_side,
    )
    evaluation = _section("evaluation", Evaluation, config.evaluation)
    _choice("evaluation.task", evaluation.task, TASKS)
    return Recipe(
        seed=config.seed,
        model=model,
        stream=stream,
        step=step,
        optimizer=optimizer,
        schedule=schedule,
        sampling=sampling,
        evaluation=evaluation,
        mesh=_section("mesh", MeshConfig, config.mesh),
    )


def check_tokenizer(recipe: Recipe) -> None:
    """Refuses a tokenizer with more tokens than the model has embeddings.

    Raises:
      UserError: with both numbers.
    """
    count = len(load_tokenizer(recipe.stream.encoder.tokenizer))
    if count > recipe.model.vocab_size:
        raise UserError(
            f"model.vocab_size {recipe.model.vocab_size} is too small for the tokenizer's {count} "
            "tokens: raise it"
        )


def to_json(config: Config) -> str:
    """The resolved config as text: what a run keeps and the golden tests compare."""
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _run_get_config(path: Path, argument: str) -> Config:
    if not path.is_file():
        raise UserError(f"no recipe file at {path}")
    spec = importlib.util.spec_from_file_location(f"ditfuse_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(argument) if argument else module.get_config()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"recipe {path} fails: {type(error).__name__}: {error}") from error


# The least value of each number that has one.
_AT_LEAST = {
    "seed": 0,
    "data.batch_size": 1,
    "data.workers": 0,
    "flow.draws": 1,
    "optimizer.warmup_steps": 0,
    "train.checkpoint_every": 0,
    "train.evaluate_every": 0,
    "train.spike_factor": 0,
    "train.steps": 1,
    "train.accumulation": 1,
    "train.log_every": 1,
    "train.keep_checkpoints": 1,
    "evaluation.count": 1,
    "sample.steps": 1,
    "sample.max_side": 16,
}


def _check_ranges(config: Config) -> None:
    for name, least in _AT_LEAST.items():
        value: Any = config
        for key in name.split("."):
            value = value[key]
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if config.seed >= 2**32:  # JAX drops what is beyond 32 bits
        raise UserError(f"seed must be below 2**32, not {config.seed}")
    if not config.sample.shift > 0:
        raise UserError(f"sample.shift must be above 0, not {config.sample.shift}")
    if not config.optimizer.learning_rate > 0 or not config.optimizer.clip > 0:
        raise UserError("optimizer.learning_rate and optimizer.clip must be above 0")
    if len(config.sample.text_slots) != 3:
        raise UserError(f"sample.text_slots must be three numbers, not {config.sample.text_slots}")
    for section, key in (("data", "condition_dropout"), ("train", "ema_decay")):
        if not 0 <= config[section][key] <= 1:
            raise UserError(f"{section}.{key} must be in 0..1, not {config[section][key]}")


def _section(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{name}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    try:
        return kind(**dict(values))
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error


def _choice(name: str, value: str, known: Mapping[str, Any] | Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r} is unknown; choose from {', '.join(known)}")
