"""Recipes: configuration as Python files, locked and changed by words of the command line.

A recipe is a file with `get_config(arg)` that changes what `default_config` sets.
`settings.resolve` checks it and turns it into the typed settings that the code takes.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model import preset
from ditfuse_jax.parallel import MeshConfig
from ditfuse_jax.resources import resource

# A `ConfigDict`: what its attributes hold is known only at run time.
Config = Any


def default_config(model_preset: str) -> Config:
    """The settings every recipe starts from."""
    config: Config = ConfigDict()
    config.seed = 0
    config.model = ConfigDict(preset(model_preset).to_dict())
    config.weights = ""
    config.autoencoder = ""
    config.lora = ConfigDict(
        {
            "rank": 0,
            "alpha": 1.0,
            "target_modules": ("qkv_proj", "o_proj"),
            "use_rslora": False,
            "adapter": "",
        }
    )
    config.data = ConfigDict(
        {
            "mixture": {"photos": {"source": "samples:train", "task": "m3", "weight": 1.0}},
            "crop": (256, 256),
            "buckets": (),
            "batch_size": 64,
            "workers": 8,
            "max_bad_fraction": 0.01,
            "tokenizer": "",
            "condition_dropout": 0.1,
            "tag_dropout": 0.0,
        }
    )
    config.flow = ConfigDict(
        {
            "time_sampler": "logit_normal",
            "draws": 1,
            "weighting": "velocity",
            "gradient_loss_weight": 0.0,
        }
    )
    config.optimizer = ConfigDict(
        {
            "kind": "adamw",
            "moment_dtype": "float32",
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
            "keep_best": "PSNR_clean",
            "evaluate_every": 5000,
            "data_timeout": 600.0,
        }
    )
    config.evaluation = ConfigDict({"source": "samples:heldout", "task": "m3", "count": 16})
    config.sample = ConfigDict(SamplingConfig().to_dict())
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
    config = call_file("recipe", path, "get_config", argument)
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


def to_json(config: Config) -> str:
    """The resolved config as text: what a run keeps and the golden tests compare."""
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def call_file(what: str, path: Path, function: str, argument: str = "") -> Any:
    """Runs a Python file and returns what a function in it does.

    Args:
      what: the file's kind, for messages: "recipe".
      path: of the file.
      function: its name.
      argument: handed to the function unless empty.

    Raises:
      UserError: there is no such file, or it fails.
    """
    if not path.is_file():
        raise UserError(f"no {what} file at {path}")
    spec = importlib.util.spec_from_file_location(f"ditfuse_{what}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        call = getattr(module, function)
        return call(argument) if argument else call()
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{what} {path} fails: {type(error).__name__}: {reason}") from error
