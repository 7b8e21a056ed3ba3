"""Which settings of PEFT's `adapter_config.json` leave an adapter a plain low-rank update.

The list says what is allowed.  Anything else may change what the factors mean: an initialisation
that takes its part out of the weights (PiSSA), a magnitude beside them (DoRA), or what a later
version of PEFT adds.  Such an adapter is refused by the setting's name.  Checked against PEFT
0.21.2 (`peft/tuners/lora/config.py`, `layer.py`).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError

# Settings that only say where the adapter came from, how it was trained, or where its tensors are,
# which the tensors' own names show.
_ANY_VALUE = frozenset(
    {
        *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "peft_version"),
        *("inference_mode", "lora_dropout", "megatron_core", "qalora_group_size"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern"),  # checked below
        # Belong to initialisations, and count only if `init_lora_weights` names one of them.
        *("eva_config", "corda_config", "lora_ga_config", "loftq_config"),
        "ensure_weight_tying",  # counts only for `modules_to_save`
    }
)
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False, None, True),
    # These start from B A = 0 and leave the weights as they are (`LoraLayer.update_layer`); False
    # starts anywhere.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", "mica"),
}
# PEFT's settings are off by these values, those of later versions too.
_OFF = (None, False, [], {})

# Initialisations that take B A out of the weights, and that PEFT can undo.
_FROM_WEIGHTS = ("pissa", "olora", "corda", "lora_ga")
_FROM_INITIAL = (
    "it belongs to weights that its initialisation changed; convert it to plain LoRA in PEFT: "
    "model.save_pretrained(FOLDER, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)"
)
_MERGE = (
    "it may be more than a low-rank update of the weights; merge it in PEFT (merge_and_unload, "
    "save_pretrained) and give the merged model as the checkpoint"
)
_FULLY = "only adapters of the type LORA can be used; convert it in PEFT (peft.convert_to_lora)"


def check_lora_config(config: Mapping[str, Any], path: Path) -> None:
    """Checks that an adapter is a plain low-rank update: W + alpha / r * B A.

    Args:
      config: the content of `adapter_config.json`.
      path: the file, for the message.

    Raises:
      UserError: names the first setting that may change that, its value and the remedy.
    """
    for name, value in config.items():
        if name in _ANY_VALUE:
            continue
        allowed = _ALLOWED.get(name, _OFF)
        if any(
            value is known or (value == known and type(value) is type(known)) for known in allowed
        ):
            continue
        raise UserError(f"{path}: {name} {value!r} is not supported: {_remedy(name, value)}")
    for name in ("peft_type", "r", "lora_alpha"):
        if config.get(name) is None:
            raise UserError(f"{path} lacks {name}")
    _check_number(config["r"], f"{path}: r", whole=True)
    _check_number(config["lora_alpha"], f"{path}: lora_alpha")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, Mapping):
            raise UserError(f"{path}: {name} {patterns!r} is not an object of names and numbers")
        for pattern, value in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"{path}: {name}: {pattern!r} is no pattern ({error})") from error
            _check_number(value, f"{path}: {name} of {pattern!r}", whole=name == "rank_pattern")


def rank_of(config: Mapping[str, Any], module: str) -> int:
    """Returns the rank that a config gives a module."""
    return _by_pattern(config.get("rank_pattern"), module, config["r"])


def scaling_of(config: Mapping[str, Any], module: str) -> float:
    """Returns PEFT's scaling of B A for a module."""
    rank = rank_of(config, module)
    alpha = _by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's `get_pattern_key`: patterns are regular expressions for the end of a module's name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _check_number(value: Any, what: str, *, whole: bool = False) -> None:
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise UserError(f"{what} {value!r} is not a {'whole ' if whole else ''}number")
    if whole and value < 1:
        raise UserError(f"{what} {value!r} must be at least 1")


def _remedy(name: str, value: Any) -> str:
    if name == "peft_type":
        return _FULLY
    if name == "init_lora_weights" and str(value).lower().startswith(_FROM_WEIGHTS):
        return _FROM_INITIAL
    return _MERGE
