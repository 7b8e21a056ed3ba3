"""The settings of sampling.

`config.sample` of a recipe, the options of `ditfuse fuse` and `ditfuse evaluate`, the metadata of
fused images, the facts of reports and the settings that a sweep may vary without another training
are all derived from the fields of `SamplingConfig`: a new setting is a new field.
"""

import dataclasses
import math
import typing
from collections.abc import Collection, Mapping
from typing import Any

from ditfuse_jax.checks import check_text
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow.guidance import Guidance, GuidanceRule
from ditfuse_jax.flow.solvers import SOLVERS, count_evaluations
from ditfuse_jax.flow.times import SHIFT_RULES, TimeGrid
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.prompts import has_placeholders
from ditfuse_jax.prompts.requests import CLASSES
from ditfuse_jax.prompts.taught_requests import TaughtRequests
from ditfuse_jax.sampling_settings import SamplingSettings

_SMALLEST_TILE = 64
_SMALLEST_SIDE = 16
# What changes how guidance branches are combined.
_GUIDANCE_RULE = (
    "guidance_interval",
    "guidance_rescale",
    "apg_eta",
    "apg_threshold",
    "apg_momentum",
)


@dataclasses.dataclass(frozen=True)
class SamplingConfig(SamplingSettings):
    """How images are sampled; the metadata of each field holds its help text.

    Raises:
      UserError: a value is out of range or of another type.  The message starts with the field's
        name.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        SOLVERS.find(self.solver)
        SHIFT_RULES.find(self.shift_rule)
        first, last = self.guidance_interval
        if not first < last <= 1:
            raise UserError(
                "guidance_interval must be two times between 0 and 1, the first below the last, "
                f"not {first}, {last}"
            )
        if self.guidance_rescale > 1:
            raise UserError(f"guidance_rescale must be at most 1, not {self.guidance_rescale}")
        if abs(self.apg_momentum) >= 1:
            raise UserError(f"apg_momentum must be between -1 and 1, not {self.apg_momentum}")
        TaughtRequests.parse(self.requests)
        unknown = [name for name in self.marked_alone if name not in CLASSES]
        if unknown:
            known = ", ".join(CLASSES)
            raise UserError(
                f"class_overlays has the unknown class {unknown[0]!r}: choose from {known}"
            )
        if self.shift <= 0:
            raise UserError(f"shift must be above 0, not {self.shift}")
        if self.seed >= 2**32:  # JAX drops the higher bits
            raise UserError(f"seed must be below 2**32, not {self.seed}")
        if 0 < self.max_side < _SMALLEST_SIDE:
            raise UserError(f"max_side must be 0 or at least {_SMALLEST_SIDE}, not {self.max_side}")
        if 0 < self.tile < _SMALLEST_TILE:
            raise UserError(f"tile must be 0 or at least {_SMALLEST_TILE}, not {self.tile}")
        if self.global_steps >= self.steps:
            raise UserError(
                f"global_steps must be below steps ({self.steps}), not {self.global_steps}"
            )
        check_text("negative_prompt", self.negative_prompt)
        if has_placeholders(self.negative_prompt):
            raise UserError(
                f"negative_prompt {self.negative_prompt!r} places images: its guidance branch has "
                "none"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SamplingConfig":
        """Reads `config.sample` of a recipe or a checkpoint; missing keys take their defaults.

        Raises:
          UserError: an unknown key or a bad value; the message starts with `sample.KEY`.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UserError(f"sample.{unknown[0]} is unknown; known keys: {', '.join(known)}")
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"sample.{error}") from error

    @property
    def marked_alone(self) -> tuple[str, ...]:
        """The classes of `class_overlays`."""
        names = (name.strip() for name in self.class_overlays.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value."""
        return dataclasses.asdict(self)

    def override(self, changes: Mapping[str, Any]) -> "SamplingConfig":
        """Returns a copy with other values; those that are None are ignored.

        If `changes` lowers `steps` and says nothing about `global_steps`, these are lowered too.

        Raises:
          UserError: an unknown field, a bad value, or one that has no effect with the others.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise UserError(
                f"sampling setting {unknown[0]!r} is unknown; choose from {', '.join(known)}"
            )
        asked, steps = set(changes), changes.get("steps", self.steps)
        if isinstance(steps, int):
            changes.setdefault("global_steps", min(self.global_steps, max(steps - 1, 0)))
        changed = dataclasses.replace(self, **changes)
        changed._check_effect(asked)
        return changed

    def _check_effect(self, asked: Collection[str]) -> None:
        """Checks that no setting that was asked for is ignored because of another one."""
        branches, usual = self.guidance.branches, SamplingConfig()
        unused = {}
        if len(branches) == 1:
            scales = f"guidance_scale and image_guidance_scale {self.guidance_scale:g}"
            unused |= dict.fromkeys(_GUIDANCE_RULE, f"without guidance ({scales})")
        if "neg" not in branches:
            scale = f"image_guidance_scale {self.image_guidance_scale:g}"
            unused["negative_prompt"] = f"with {scale}: no branch is guided away from it"
        if not self.tile:
            unused["global_steps"] = "without tiles (tile 0)"
        if not self.class_map:
            unused |= dict.fromkeys(("class_map_side", "class_overlays"), "without class_map")
        for name, why in unused.items():
            if name in asked and getattr(self, name) != getattr(usual, name):
                raise UserError(f"{name} has no effect {why}: leave it out, or change that")

    @property
    def guidance(self) -> Guidance:
        """The guidance scales, the branches that they need, and how these are combined."""
        rule = GuidanceRule(
            self.guidance_interval,
            self.guidance_rescale,
            self.apg_eta,
            self.apg_threshold,
            self.apg_momentum,
        )
        return Guidance(self.guidance_scale, self.image_guidance_scale, rule)

    @property
    def time_grid(self) -> TimeGrid:
        """The times that the solver visits."""
        return TimeGrid(self.steps, self.shift, self.shift_rule)

    @property
    def num_evaluations(self) -> int:
        """How often the solver evaluates the velocity."""
        return count_evaluations(SOLVERS.find(self.solver), self.steps)

    def check_model(self, model: ModelConfig) -> None:
        """Checks the settings that depend on the model.

        Raises:
          UserError: tiles that do not fit the model's patches, or global steps on latents.
        """
        if self.tile % model.size_multiple:
            raise UserError(
                f"tile must be a multiple of {model.size_multiple} pixels for this model, not "
                f"{self.tile}"
            )
        if self.global_steps and model.latent_downsampling > 1:
            raise UserError("global_steps needs a model on pixels: latents cannot be resized")


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """Returns the value in the field's type: lists as tuples, whole numbers as floats.

    Raises:
      UserError: it has another type, is not finite or too small.
    """
    kind: Any = field.type
    parts = typing.get_args(kind)
    if parts:
        if not isinstance(value, tuple | list) or len(value) != len(parts):
            raise UserError(f"{field.name} must be {len(parts)} numbers, not {value!r}")
        value, kinds = tuple(value), parts
    else:
        kinds = (kind,)
    numbers = value if parts else (value,)
    for number, of in zip(numbers, kinds, strict=True):
        accepted = (int, float) if of is float else of
        if not isinstance(number, accepted) or (isinstance(number, bool) and of is not bool):
            raise UserError(f"{field.name} must be of type {of.__name__}, not {number!r}")
        if of is float and not math.isfinite(number):
            raise UserError(f"{field.name} must be a finite number, not {number}")
        least = field.metadata.get("at_least")
        if least is not None and number < least:
            raise UserError(f"{field.name} must be at least {least}, not {value}")
    if parts:
        return tuple(float(x) if of is float else x for x, of in zip(value, kinds, strict=True))
    return float(value) if kind is float else value
