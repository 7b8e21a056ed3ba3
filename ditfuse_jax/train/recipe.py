"""Recipes: configuration as Python files, changed by overrides of the command line.

A recipe is a file with `get_config(arg)` that changes what `default_config` sets.
`settings.resolve` checks it and turns it into typed settings.
"""

import ast
import dataclasses
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ditfuse_jax.config_names import RENAMED
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.flow import LossConfig, SamplingConfig
from ditfuse_jax.flow.times import LogitNormal
from ditfuse_jax.model import preset
from ditfuse_jax.parallel import MeshConfig
from ditfuse_jax.resources import resource
from ditfuse_jax.train.optimizer import OptimizerConfig
from ditfuse_jax.train.train_config import TrainConfig

# A `ConfigDict`, whose attributes have no static types.
Config = Any


def default_config(model_preset: str, imports: Sequence[str | Path] = ()) -> Config:
    """Returns the settings that every recipe starts from.

    Args:
      model_preset: a key of `model.PRESETS`.
      imports: extensions for `config.imports` that are loaded at once, such as the file that
        registers the preset.

    Raises:
      UserError: an extension fails, or the preset is unknown.
    """
    config: Config = ConfigDict()
    config.seed = 0
    config.imports = load_extensions(map(str, imports))
    config.model = ConfigDict(preset(model_preset).to_dict())
    config.weights = ""
    config.autoencoder = ""
    config.lora = ConfigDict(
        {
            "rank": 0,
            "alpha": 1.0,
            "target_modules": ("qkv_proj", "o_proj"),
            "use_rslora": False,
            "quantize": "",
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
            "read_threads": 0,
            "cache": "",
            "cache_gib": 100.0,
            "tokenizer": "",
            "condition_dropout": 0.1,
            "tag_dropout": 0.0,
        }
    )
    time_sampler = {"name": "logit_normal"} | dataclasses.asdict(LogitNormal())
    config.flow = ConfigDict(
        {"time_sampler": time_sampler, "draws": 1} | dataclasses.asdict(LossConfig())
    )
    config.distill = ConfigDict({"loss": "", "teacher": "", "sample": {}})
    config.optimizer = ConfigDict(dataclasses.asdict(OptimizerConfig()))
    config.train = ConfigDict(dataclasses.asdict(TrainConfig()))
    config.evaluations = ConfigDict(
        {"held_out": {"every": 5000, "source": "samples:heldout", "task": "m3", "count": 16}}
    )
    config.sample = ConfigDict(SamplingConfig().to_dict())
    config.mesh = ConfigDict(dataclasses.asdict(MeshConfig()))
    return config


def shared_mixture(
    *groups: tuple[Sequence[str], Mapping[str, float]],
) -> dict[str, dict[str, str | float]]:
    """Returns a mixture in which the sources of a group share the weight of each of its tasks.

    Args:
      groups: pairs of sources, and task -> weight.

    Returns:
      `FOLDER_TASK` -> a component, for every source with every task of its group; of several
      folders of one name, all but the first have their parent's before it: `PARENT_FOLDER_TASK`.

    Raises:
      UserError: two components have the same name even so.
    """
    mixture: dict[str, dict[str, str | float]] = {}
    for sources, tasks in groups:
        for task, weight in tasks.items():
            for source in sources:
                key = f"{Path(source).name}_{task}"
                if key in mixture:
                    key = f"{Path(source).parent.name}_{key}"
                if key in mixture:
                    raise UserError(
                        f"two components of a mixture would be called {key}, those of "
                        f"{mixture[key]['source']} and of {source}: rename one of the folders, or "
                        "remove what is named twice"
                    )
                share = weight / len(sources)
                mixture[key] = {"source": source, "task": task, "weight": share}
    return mixture


def load_recipe(name: str, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Config:
    """Loads a recipe and its extensions, applies overrides and locks it.

    Paths in `config.imports` are relative to the recipe's folder, or else to the current folder;
    they become absolute.

    Args:
      name: a bundled recipe (`nano_m3`), or the path of a Python file; `name:argument` passes
        `argument` to its `get_config`.
      overrides: see `apply_overrides`.
      imports: extensions to add to `config.imports`.

    Raises:
      UserError: there is no such recipe, it fails, an extension fails, or an override names no key
        or has a wrong type.
    """
    name, _, argument = name.partition(":")
    path = Path(name) if name.endswith(".py") else resource_or_error(name)
    config = call_file("recipe", path, "get_config", argument)
    config.lock()
    config = apply_overrides(config, overrides)
    with config.unlocked():
        own = (_absolute(name, path.parent) for name in config.imports)
        config.imports = tuple(dict.fromkeys((*own, *imports)))
    load_extensions(config.imports)
    return config


def _absolute(name: str, folder: Path) -> str:
    """Returns an import's name, a relative path made absolute."""
    if not name.endswith(".py"):
        return name
    path = Path(name).expanduser()
    beside = folder / path
    return str((beside if beside.is_file() else path).absolute())


def resource_or_error(name: str) -> Path:
    """Returns the file of a bundled recipe."""
    known = sorted(p.stem for p in resource("configs").glob("[!_]*.py"))
    if name not in known:
        raise UserError(
            f"recipe {name!r} is unknown; choose from {', '.join(known)}, or give the path of a "
            "Python file with get_config"
        )
    return resource("configs", f"{name}.py")


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Applies overrides like `--config.train.steps=100` to a copy of a locked config.

    The last override of a key counts.  A task or a time sampler may be given as a name or as a dict
    of a name and settings, and its settings one by one:

        --config.data.mixture.photos.task=mff
        --config.data.mixture.photos.task.overlap_fraction=0.5
        --config.flow.time_sampler="{'name': 'logit_normal', 'mean': -0.8}"

    Raises:
      UserError: an argument is not an override, names no key, or its value has a wrong type.
    """
    stray = [argument for argument in overrides if not argument.startswith("--config.")]
    if stray:
        raise UserError(
            f"unknown argument {stray[0]!r}; overrides look like --config.train.steps=9"
        )
    # absl would join tuples that are given twice.
    last = {argument.partition("=")[0]: argument for argument in overrides}
    arguments = ["ditfuse", *(a for key, a in last.items() if not _is_in_spec(key))]
    parser = flags.FlagValues()
    try:
        config = config.copy_and_resolve_references()
        for key, argument in last.items():
            if _is_in_spec(key):
                _override_spec(config, key, argument.partition("=")[2])
        config_flags.DEFINE_config_dict("config", config, flag_values=parser, sys_argv=arguments)
        parser(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(_message(error).split())
        what = "no such key: " if isinstance(error, AttributeError | KeyError) else ""
        renamed = [
            f"{old} is now {new}" for old, new in RENAMED.items() if f"--config.{old}" in last
        ]
        reason = "; ".join([f"{what}{reason}", *renamed])
        raise UserError(f"cannot apply {' '.join(overrides)}: {reason}") from error
    config = parser["config"].value
    config.lock()
    return config


def _message(error: Exception) -> str:
    """Returns what an error says.

    str() of a KeyError is the representation of its message, with quotes and escapes;
    ml_collections also puts such a text into an AttributeError.
    """
    text = str(error.args[0] if error.args else error)
    try:
        literal = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return literal if isinstance(literal, str) else text


# Keys whose value is a name, or a dict of `name` and settings.
_SPECS = ("task", "time_sampler")


def _is_in_spec(key: str) -> bool:
    return any(part in _SPECS for part in key.split(".")[2:])


def _override_spec(config: Config, key: str, text: str) -> None:
    """Sets a task or a time sampler, or one of its settings.

    Raises:
      KeyError: there is no such key.
      ValueError: the value is neither a name nor a dict with a name.
    """
    parts = key.removeprefix("--config.").split(".")
    depth = next(i for i, part in enumerate(parts) if part in _SPECS)
    *sections, name = parts[: depth + 1]
    section = config
    for part in sections:
        section = section[part]
    spec = section[name]
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    match parts[depth + 1 :]:
        case []:
            spec = value if isinstance(value, dict) else text
        case [option]:
            spec = ({"name": spec} if isinstance(spec, str) else spec.to_dict()) | {option: value}
        case _:
            raise KeyError(key)
    if not spec or (isinstance(spec, dict) and not isinstance(spec.get("name"), str)):
        raise ValueError(f"{key} needs a name, or a dict with a name")
    with section.unlocked(), section.ignore_type():
        section[name] = ConfigDict(spec) if isinstance(spec, dict) else spec


def to_json(config: Config) -> str:
    """Returns a config as JSON, as it is stored with a run."""
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def call_file(what: str, path: Path, function: str, argument: str = "") -> Any:
    """Executes a Python file and calls one of its functions.

    Args:
      what: kind of the file, for messages: "recipe".
      path: of the file.
      function: name of the function.
      argument: passed to the function unless empty.

    Returns:
      What the function returns.

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
