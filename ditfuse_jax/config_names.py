"""Configuration keys that were renamed, so that older checkpoints keep their meaning."""

from collections.abc import Mapping
from typing import Any

# Old key -> new key, as "section.key".
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
}


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint's config with renamed keys under their current names."""
    current = {k: dict(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    for old, new in RENAMED.items():
        section, key = old.split(".")
        if key in current.get(section, {}):
            value = current[section].pop(key)
            new_section, new_key = new.split(".")
            current[new_section].setdefault(new_key, value)
    return current
