"""What differs between the settings of a run's earlier starts and those of the present one."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.config_names import with_current_names
from ditfuse_jax.errors import UserError
from ditfuse_jax.model import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.settings import with_defaults

_MOST_LINES = 12
_MOST_CHARACTERS = 80  # of a value
_ABSENT = "(none)"

# Settings of the sampler that make no difference to the images.
_SPEED_ONLY = ("batch_size",)


def _defaults(kind: type) -> dict[str, Any]:
    return {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }


_DEFAULTS = {"model": _defaults(ModelConfig), "lora": _defaults(LoRAConfig)}


def check_same_model(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Refuses to continue a run with another model.

    Args:
      saved: the checkpoint's config.
      config: of the run that continues.
      path: of the run, for the message.

    Raises:
      UserError: naming the first difference.
    """
    changeable = {*RUNTIME_FIELDS, "adapter"}
    for section in ("model", "lora"):
        # A field that is newer than the checkpoint had its default.
        old, new = _DEFAULTS[section] | dict(saved[section]), to_plain(config[section])
        for key in sorted((set(old) | set(new)) - changeable):
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{path} holds a checkpoint of another model: {section}.{key} is "
                    f"{old.get(key)!r} there and {new.get(key)!r} in this config; use the same "
                    "config or another --workdir"
                )


def to_plain(section: Config) -> dict[str, Any]:
    """Returns a config section as it is read back from JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in section.to_dict().items()}


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns key -> old and new value of every setting that differs.

    Args:
      old: the config of an earlier start as it was stored; keys may have former names, and those
        that are newer had their defaults.
      new: the config of this start, as a plain dict.
    """
    before, after = flat_settings(_completed(old)), flat_settings(_completed(new))
    keys = [*after, *(key for key in before if key not in after)]
    pairs = {key: (before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in keys}
    return {key: (a, b) for key, (a, b) in pairs.items() if a != b}


def describe_changes(changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Returns a line per changed setting; of many, the first dozen and how many there are more."""
    lines = [
        f"  {key}: {value_text(old)} -> {value_text(new)}" for key, (old, new) in changes.items()
    ]
    more = len(lines) - _MOST_LINES
    if more > 0:
        lines[_MOST_LINES:] = [f"  and {more} more, see the last line of runs.jsonl"]
    return ["settings that changed since the last start:", *lines] if lines else []


def evaluation_settings(config: Mapping[str, Any], scalar: str) -> dict[str, Any]:
    """Returns the settings that a scalar of the evaluations depends on, besides the parameters.

    Values of one scalar may be compared only if these are equal.

    Args:
      config: of a run, as a plain dict, maybe of an earlier version.
      scalar: its name with prefix, e.g. `eval/PSNR_clean`; see `EvaluationConfig.prefix`.
    """
    config = _completed(config)
    evaluations = {}
    for name, values in config["evaluations"].items():
        evaluator = values.get("evaluator", name)
        own = scalar.removeprefix("eval/").startswith(f"{name}/")
        if own if name != evaluator else scalar.count("/") == 1:
            options = {key: value for key, value in values.items() if key != "every"}
            evaluations[name] = options | {"evaluator": evaluator}
    sample = {key: value for key, value in config["sample"].items() if key not in _SPEED_ONLY}
    data = {key: config["data"][key] for key in ("crop", "tokenizer")}
    return flat_settings({"evaluations": evaluations, "sample": sample, "data": data})


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns key with sections -> value; `{"name": "m3", ...}` is the value "m3" with settings."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            settings = dict(value)
            if isinstance(settings.get("name"), str):
                flat[f"{prefix}{key}"] = settings.pop("name")
            flat |= flat_settings(settings, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as it is read back from JSON, with current names and defaults."""
    values = with_current_names(config)
    with contextlib.suppress(UserError):  # a key that this version does not know is compared too
        values = with_defaults(values)
    values["model"] = _DEFAULTS["model"] | values.get("model", {})
    return json.loads(json.dumps(values))


def value_text(value: Any) -> str:
    """Returns a value of `changed_settings` for a message, in JSON; a long one is cut."""
    text = value if value == _ABSENT else json.dumps(value)
    short = text[: _MOST_CHARACTERS - 3] + "..."
    return text if len(text) <= _MOST_CHARACTERS else short
