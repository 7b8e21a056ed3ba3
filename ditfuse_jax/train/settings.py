"""What a recipe means: typed settings, checked by name before anything is allocated."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ditfuse_jax.config_names import with_current_names
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import LossConfig, SamplingConfig, time_sampler
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Network
from ditfuse_jax.model.remat import NAMES as REMAT_NAMES
from ditfuse_jax.parallel import MeshConfig
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent
from ditfuse_jax.prompts import TextSlots, load_tokenizer
from ditfuse_jax.tasks import find_task
from ditfuse_jax.train.optimizer import OptimizerConfig, make_optimizer
from ditfuse_jax.train.recipe import Config, default_config
from ditfuse_jax.train.step import StepConfig


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When things happen, in steps; 0 means never.

    Attributes:
      steps: updates in all.
      log_every: metrics lines.
      checkpoint_every: saves; the last step is always saved.
      keep_checkpoints: how many of the newest are kept.
      keep_best: metric of the evaluations whose best checkpoint is kept too; empty for none.
      evaluate_every: evaluations with sample pictures; the last step is always evaluated.
      data_timeout: seconds to wait for a batch before the run ends.
    """

    steps: int
    log_every: int
    checkpoint_every: int
    keep_checkpoints: int
    keep_best: str
    evaluate_every: int
    data_timeout: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated during training: `count` examples of a task on held-out images."""

    source: str
    task: str
    count: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a run, typed and checked.

    Attributes:
      weights: folder of the weights it starts from, or under its adapters; empty for fresh ones.
      autoencoder: folder of the autoencoder of a model on latents.
      lora: the adapters that train instead of the model, if any.
      adapter: folder of an adapter that they start from; empty for fresh ones.
    """

    seed: int
    model: ModelConfig
    weights: str
    autoencoder: str
    lora: LoRAConfig | None
    adapter: str
    data: DataPipeline
    step: StepConfig
    optimizer: OptimizerConfig
    schedule: Schedule
    sampling: SamplingConfig
    evaluation: Evaluation
    mesh: MeshConfig

    @property
    def network(self) -> Network:
        """What is built."""
        return Network(self.model, self.lora)


def resolve(config: Config) -> Recipe:
    """Checks every section and returns the typed settings.

    Raises:
      UserError: naming the bad or conflicting key.
    """
    config = _completed(config)
    model = ModelConfig.from_dict(config.model.to_dict())
    _choice("model.attention", model.attention, IMPLEMENTATIONS)
    _choice("model.remat", model.remat, REMAT_NAMES)
    data, train = config.data, config.train
    crop = _size("data.crop", data.crop, model.size_multiple)
    buckets = [_size("data.buckets", shape, model.size_multiple) for shape in data.buckets]
    encoder = ExampleEncoder(
        TextSlots(*model.text_slots),
        data.tokenizer or None,
        float(data.condition_dropout),
        float(data.tag_dropout),
    )
    pipeline = DataPipeline(
        mixture=[
            _section(f"data.mixture.{name}", MixtureComponent, part)
            for name, part in sorted(data.mixture.items())
        ],
        crop=crop,
        batch_size=data.batch_size,
        seed=config.seed,
        encoder=encoder,
        workers=data.workers,
        buckets=tuple(buckets),
        max_bad_fraction=float(data.max_bad_fraction),
    )
    step = StepConfig(
        seed=config.seed,
        time_sampler=config.flow.time_sampler,
        loss=LossConfig(config.flow.weighting, float(config.flow.gradient_loss_weight)),
        draws=config.flow.draws,
        accumulation=train.accumulation,
        ema_decay=train.ema_decay,
        spike_factor=train.spike_factor,
    )
    time_sampler(step.time_sampler)
    schedule = Schedule(**{f.name: train[f.name] for f in dataclasses.fields(Schedule)})
    _check_ranges(config)
    optimizer = _section("optimizer", OptimizerConfig, config.optimizer)
    make_optimizer(optimizer, schedule.steps)  # refuses what it does not know
    sampling = SamplingConfig.from_dict(config.sample)
    sampling.check_model(model)
    evaluation = _section("evaluation", Evaluation, config.evaluation)
    try:
        find_task(evaluation.task)
    except UserError as error:
        raise UserError(f"evaluation.task: {error}") from error
    return Recipe(
        seed=config.seed,
        model=model,
        weights=config.weights,
        autoencoder=config.autoencoder,
        lora=_lora(config),
        adapter=config.lora.adapter,
        data=pipeline,
        step=step,
        optimizer=optimizer,
        schedule=schedule,
        sampling=sampling,
        evaluation=evaluation,
        mesh=_section("mesh", MeshConfig, config.mesh),
    )


def _completed(config: Config) -> Config:
    """A config, also a checkpoint's plain dict, with the settings that it is older than."""
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    values = with_current_names(values)
    for name, default in default_config("nano").to_dict().items():
        if isinstance(default, dict) and name != "model":
            values[name] = default | values.get(name, {})
        else:
            values.setdefault(name, default)
    return ConfigDict(values)


def check_tokenizer(recipe: Recipe) -> None:
    """Refuses a tokenizer with more tokens than the model has embeddings.

    Raises:
      UserError: with both numbers.
    """
    count = len(load_tokenizer(recipe.data.encoder.tokenizer))
    if count > recipe.model.vocab_size:
        raise UserError(
            f"model.vocab_size {recipe.model.vocab_size} is too small for the tokenizer's {count} "
            "tokens: raise it"
        )


# The least value of each number that has one.
_AT_LEAST = {
    "seed": 0,
    "data.batch_size": 1,
    "data.workers": 0,
    "flow.draws": 1,
    "optimizer.warmup_steps": 0,
    "train.checkpoint_every": 0,
    "train.data_timeout": 0,
    "train.evaluate_every": 0,
    "train.spike_factor": 0,
    "train.steps": 1,
    "train.accumulation": 1,
    "train.log_every": 1,
    "train.keep_checkpoints": 1,
    "evaluation.count": 1,
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
    if not config.optimizer.learning_rate > 0 or not config.optimizer.clip > 0:
        raise UserError("optimizer.learning_rate and optimizer.clip must be above 0")
    shares = ("condition_dropout", "tag_dropout", "max_bad_fraction")
    for section, key in (*(("data", share) for share in shares), ("train", "ema_decay")):
        if not 0 <= config[section][key] <= 1:
            raise UserError(f"{section}.{key} must be in 0..1, not {config[section][key]}")


def _size(name: str, value: Any, multiple: int) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{name} must be (height, width), not {value}")
    height, width = value
    for side in (height, width):
        if side < 1 or side % multiple:
            raise UserError(f"{name} {tuple(value)} must be multiples of {multiple} pixels")
    return height, width


def _lora(config: Config) -> LoRAConfig | None:
    values = config.lora.to_dict()
    adapter = values.pop("adapter")
    if not config.lora.rank:
        if adapter:
            raise UserError("lora.adapter needs lora.rank: the rank of the adapter")
        return None
    return _section(
        "lora", LoRAConfig, values | {"target_modules": tuple(values["target_modules"])}
    )


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
