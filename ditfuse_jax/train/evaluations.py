"""Evaluations during training: what a recipe asks for, and the interface of an evaluator.

`config.evaluations` of a recipe maps names to settings:

    {"held_out": {"every": 1000, "source": "samples:heldout", "task": "m3", "count": 16}}

The evaluator is the entry of `EVALUATORS` that the setting `evaluator` names, or the entry of the
evaluation's own name.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ditfuse_jax.checks import check_at_least
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.registry import Registry
from ditfuse_jax.train.best import Criterion
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.state import Frozen, TrainState

if TYPE_CHECKING:
    from ditfuse_jax.train.settings import Recipe


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """The run after `step` updates; arrays must not be kept, the next update reuses their memory.

    Attributes:
      samples: folder for pictures.
    """

    step: int
    state: TrainState
    frozen: Frozen
    space: Space
    recipe: "Recipe"
    run: RunFolder
    partitioner: Partitioner
    samples: Path


class Callback(Protocol):
    """Called after every update, in all processes alike."""

    def __call__(self, context: EvalContext) -> Mapping[str, float] | None:
        """Returns scalars to record, if any; the same in all processes."""
        ...


class Evaluator(Protocol):
    """Scores the model when its evaluation is due, in all processes alike.

    An evaluator may have the attribute `directions`, a mapping from the names of its scalars to
    `higher`, `lower` or `zero` (see `Criterion`): `train.keep_best` may name one of these.
    """

    def __call__(self, context: EvalContext) -> Mapping[str, float]:
        """Returns scalars to record, the same in all processes."""
        ...


def _evaluators() -> dict[str, Callable[..., Evaluator]]:
    # By name at the first lookup: `evaluate` builds on this package.
    return {"held_out": importlib.import_module("ditfuse_jax.evaluate").HeldOut}


# Name -> factory, which takes the recipe and the evaluation's settings as keyword arguments.
EVALUATORS: Registry[Callable[..., Evaluator]] = Registry("evaluator", _evaluators)

# Name -> factory, which takes the recipe.
CALLBACKS: Registry[Callable[["Recipe"], Callback]] = Registry("callback")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """One entry of `config.evaluations`.

    Attributes:
      name: of the entry.
      evaluator: name in `EVALUATORS`.
      every: interval in steps; the last step is always evaluated, with 0 only that.
      options: the evaluator's settings.
    """

    name: str
    evaluator: str
    every: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_at_least(f"evaluations.{self.name}.every", self.every, 0)

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any]) -> "EvaluationConfig":
        """Reads an entry of `config.evaluations`."""
        options = dict(values)
        evaluator = options.pop("evaluator", name)
        return cls(name, evaluator, options.pop("every", 0), options)

    @property
    def prefix(self) -> str:
        """Prefix of its scalars: `eval`, or `eval/NAME` unless it is named after its evaluator."""
        return "eval" if self.name == self.evaluator else f"eval/{self.name}"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluator and when it is called.

    Attributes:
      evaluator: returns scalars.
      every: interval in steps; the last step is always evaluated, with 0 only that.
      prefix: the scalars are recorded as `prefix/name`.
      folder: below the run's `samples`, for pictures.
      directions: by which of the scalars the best checkpoint may be chosen, see `Criterion`.
    """

    evaluator: Evaluator
    every: int = 0
    prefix: str = "eval"
    folder: str = ""
    directions: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def is_due(self, step: int, last: bool) -> bool:
        """Returns whether to evaluate after this step."""
        return last or (self.every > 0 and step % self.every == 0)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Evaluates; the names of the scalars have the prefix.

        Raises:
          UserError: a scalar of `directions` is missing.
        """
        context = dataclasses.replace(context, samples=context.samples / self.folder)
        scalars = self.evaluator(context)
        missing = sorted(set(self.directions) - set(scalars))
        if missing:
            raise UserError(
                f"an evaluator announces the scalar {missing[0]!r} but returned only "
                f"{', '.join(scalars) or 'none'}"
            )
        return {f"{self.prefix}/{name}": value for name, value in scalars.items()}


def make_evaluations(recipe: "Recipe") -> list[Evaluation]:
    """Builds the evaluators that a recipe names.

    Raises:
      UserError: an unknown evaluator or setting, or an evaluator that refuses its settings.
    """
    made = []
    for config in recipe.evaluations:
        key = f"evaluations.{config.name}"
        try:
            factory = EVALUATORS.find(config.evaluator)
            _check_options(factory, config.options)
            evaluator = factory(recipe, **config.options)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error
        folder = "" if config.name == config.evaluator else config.name
        directions = getattr(evaluator, "directions", {})
        made.append(Evaluation(evaluator, config.every, config.prefix, folder, directions))
    return made


def find_criterion(keep_best: str, evaluations: Sequence[Evaluation]) -> Criterion | None:
    """Returns what decides the best checkpoint; None if nothing is evaluated or nothing shall.

    Args:
      keep_best: `train.keep_best`: name of a scalar, without the leading `eval/`.
      evaluations: of the run.

    Raises:
      UserError: no evaluation has such a scalar.
    """
    if not keep_best or not evaluations:
        return None
    known = {
        f"{evaluation.prefix}/{name}": direction
        for evaluation in evaluations
        for name, direction in evaluation.directions.items()
    }
    name = f"eval/{keep_best}"
    if name not in known:
        choices = ", ".join(key.removeprefix("eval/") for key in known) or "none"
        raise UserError(
            f"train.keep_best {keep_best!r} is not a scalar of the evaluations; choose from "
            f"{choices}, or leave it empty"
        )
    return Criterion(name, known[name])


def _check_options(factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        inspect.signature(factory).bind(None, **options)
    except TypeError as error:
        raise UserError(str(error)) from error
