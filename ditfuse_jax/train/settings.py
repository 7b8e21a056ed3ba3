"""Typed settings of a recipe, checked before anything is allocated."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ditfuse_jax.checks import check_seed
from ditfuse_jax.config_names import with_current_names
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.flow import LossConfig, SamplingConfig, make_time_sampler
from ditfuse_jax.flow.distillation import DistillationConfig
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Network
from ditfuse_jax.parallel import MeshConfig
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent
from ditfuse_jax.prompts import TextSlots
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.tasks import make_task
from ditfuse_jax.train.evaluations import EvaluationConfig
from ditfuse_jax.train.optimizer import OptimizerConfig
from ditfuse_jax.train.recipe import Config, default_config
from ditfuse_jax.train.step import StepConfig
from ditfuse_jax.train.teacher import TEACHER_FINGERPRINT, Teacher
from ditfuse_jax.train.train_config import TrainConfig
from ditfuse_jax.weights.quantized import QUANTIZED


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a run, typed and checked.

    Attributes:
      imports: extensions, see `load_extensions`.
      weights: folder of the weights it starts from, or under its adapters; empty for fresh ones.
      autoencoder: folder of the autoencoder of a model on latents.
      lora: the adapters that train instead of the model, if any.
      adapter: folder of an adapter that they start from; empty for fresh ones.
      teacher: folder of the model that is distilled; empty for training on the data.
    """

    seed: int
    imports: tuple[str, ...]
    model: ModelConfig
    weights: str
    autoencoder: str
    lora: LoRAConfig | None
    adapter: str
    teacher: str
    data: DataPipeline
    step: StepConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    sampling: SamplingConfig
    evaluations: tuple[EvaluationConfig, ...]
    mesh: MeshConfig

    @property
    def network(self) -> Network:
        """What is built."""
        return Network(self.model, self.lora, self.lora.quantize or None if self.lora else None)


def resolve(config: Config) -> Recipe:
    """Checks every section and returns the typed settings.

    Raises:
      UserError: naming the bad or conflicting key.
    """
    config = ConfigDict(with_defaults(with_current_names(_plain(config))))
    imports = tuple(config.imports)
    load_extensions(imports)
    check_seed("seed", config.seed)
    model = ModelConfig.from_dict(config.model.to_dict())
    data = config.data
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
            for name, part in sorted(data.mixture.to_dict().items())
        ],
        crop=crop,
        batch_size=data.batch_size,
        seed=config.seed,
        encoder=encoder,
        workers=data.workers,
        buckets=tuple(buckets),
        max_bad_fraction=float(data.max_bad_fraction),
        read_threads=data.read_threads,
        cache=data.cache,
        cache_gib=float(data.cache_gib),
    )
    flow, train = config.flow, _section("train", TrainConfig, config.train)
    sampling = SamplingConfig.from_dict(config.sample)
    sampling.check_model(model)
    teacher = _teacher(config, sampling, encoder.tokenizer)
    step = StepConfig(
        seed=config.seed,
        time_sampler=make_time_sampler(_plain(flow.time_sampler)),
        loss=LossConfig(flow.weighting, float(flow.gradient_loss_weight)),
        draws=teacher.draws(flow.draws) if teacher else flow.draws,
        accumulation=train.accumulation,
        ema_decay=train.ema_decay,
        spike_factor=train.spike_factor,
        teacher=teacher,
    )
    optimizer = _section("optimizer", OptimizerConfig, config.optimizer)
    return Recipe(
        seed=config.seed,
        imports=imports,
        model=model,
        weights=config.weights,
        autoencoder=config.autoencoder,
        lora=_lora(config),
        adapter=config.lora.adapter,
        teacher=config.distill.teacher,
        data=pipeline,
        step=step,
        optimizer=optimizer,
        train=train,
        sampling=sampling,
        evaluations=_evaluations(config.evaluations),
        mesh=_section("mesh", MeshConfig, config.mesh),
    )


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with defaults for keys that are missing, as in that of an older checkpoint.

    Args:
      values: a plain dict with current names.

    Raises:
      UserError: an unknown key, at the top or in a section that no dataclass describes.
    """
    values = dict(values)
    defaults = default_config("nano").to_dict()
    _check_keys("config", values, [*defaults, FINGERPRINT, TEACHER_FINGERPRINT, QUANTIZED])
    for name in ("data", "flow", "lora", "distill"):
        _check_keys(name, values.get(name, {}), defaults[name])
    for name, default in defaults.items():
        if isinstance(default, dict) and name not in ("model", "evaluations"):
            values[name] = default | values.get(name, {})
        else:
            values.setdefault(name, default)
    return values


def _evaluations(section: Config) -> tuple[EvaluationConfig, ...]:
    """Reads `config.evaluations`; a setting `task` is checked, too."""
    evaluations = tuple(
        EvaluationConfig.from_dict(name, values) for name, values in _plain(section).items()
    )
    for evaluation in evaluations:
        if "task" in evaluation.options:
            try:
                make_task(evaluation.options["task"])
            except UserError as error:
                raise UserError(f"evaluations.{evaluation.name}.task: {error}") from error
    return evaluations


def _size(name: str, value: Any, multiple: int) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{name} must be (height, width), not {value}")
    height, width = value
    for side in (height, width):
        if type(side) is not int:
            raise UserError(f"{name} must be two whole numbers, not {value}")
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


def _teacher(config: Config, student: SamplingConfig, tokenizer: str | None) -> Teacher | None:
    """Reads `config.distill`; None if nothing is distilled."""
    distill = config.distill
    if not distill.loss:
        if distill.teacher:
            raise UserError(
                "distill.teacher has no effect without distill.loss: use `ditfuse distill TEACHER "
                "--config RECIPE`"
            )
        return None
    if config.lora.rank and config.weights != distill.teacher:
        raise UserError(
            f"the teacher of adapters is the model under them: distill.teacher is "
            f"{distill.teacher}, weights {config.weights}"
        )
    try:
        teacher = SamplingConfig.from_dict(_plain(distill.sample))
    except UserError as error:
        raise UserError(f"distill.{error}") from error
    return Teacher(DistillationConfig(distill.loss, teacher, student), tokenizer)


def _section(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """Builds the dataclass of a section; whole numbers become floats, lists become tuples."""
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    _check_keys(name, values, fields)
    typed = {}
    for key, value in values.items():
        value = _plain(value)
        if fields[key] is float and isinstance(value, int):
            value = float(value)
        typed[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**typed)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error


def _check_keys(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{name}: unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value
