"""Configuration keys that were renamed, for reading older checkpoints."""

from collections.abc import Mapping
from typing import Any

from ditfuse_jax.errors import UserError

# Old key -> new key, each with its sections.
RENAMED = {
    "model.target_sees_sources": "model.source_skip",
    "model.target_hears_prompt": "model.pooled_prompt",
    "data.shapes": "data.buckets",
    "flow.detail": "flow.gradient_loss_weight",
    "sample.overview": "sample.global_steps",
    "sample.guidance": "sample.guidance_scale",
    "sample.image_guidance": "sample.image_guidance_scale",
    "model.source_stem": "model.conv_stem",
    "lora.targets": "lora.target_modules",
    "lora.rslora": "lora.use_rslora",
    "mesh.cross_data": "mesh.dcn_data",
    "mesh.cross_fsdp": "mesh.dcn_fsdp",
    "mesh.cross_context": "mesh.dcn_context",
    "mesh.cross_tensor": "mesh.dcn_tensor",
    "evaluation.source": "evaluations.held_out.source",
    "evaluation.task": "evaluations.held_out.task",
    "evaluation.count": "evaluations.held_out.count",
    "train.evaluate_every": "evaluations.held_out.every",
}


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint's config with renamed keys under their current names.

    Raises:
      UserError: a renamed key stands beside its current name, as in a recipe that still sets it.
    """
    current = _copied(config)
    for old, new in RENAMED.items():
        *sections, key = old.split(".")
        section = _section(current, sections)
        if section is None or key not in section:
            continue
        value = section.pop(key)
        if not section:
            del _section(current, sections[:-1])[sections[-1]]
        target = current
        *sections, key = new.split(".")
        for name in sections:
            target = target.setdefault(name, {})
        if key in target:
            raise UserError(f"config.{old} is now config.{new}: rename it")
        target[key] = value
    return current


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _section(values: Any, names: list[str]) -> Any:
    """Returns a nested section, or None if there is none of that name."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else None
