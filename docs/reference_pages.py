"""The generated reference: commands, settings, names, Python."""

import argparse
import dataclasses
import re
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from ditfuse_jax import cli
from ditfuse_jax.flow.loss import LossConfig
from ditfuse_jax.flow.sampling_config import SamplingConfig
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.parallel.mesh import MeshConfig
from ditfuse_jax.registry import Registry
from ditfuse_jax.sampling_settings import option_name
from ditfuse_jax.train.optimizer import OptimizerConfig
from ditfuse_jax.train.recipe import default_config
from ditfuse_jax.train.train_config import TrainConfig

# Section of a recipe -> the dataclass that documents it.
SECTIONS = {
    "model": ModelConfig,
    "lora": LoRAConfig,
    "flow": LossConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
    "mesh": MeshConfig,
    "sample": SamplingConfig,
}

# Settings without a dataclass; tests compare them with `default_config`.
OTHER_SETTINGS = {
    "seed": "seed of parameters, data and noise",
    "imports": "extensions to load: Python files, relative to the recipe, or modules",
    "weights": "weights to start from: a run, `RUN@best`, a folder of OmniGen; empty: random",
    "autoencoder": "folder of the autoencoder of a model on latents",
    "data.mixture": "name -> source, task and weight; see [Data](../data.md#sources)",
    "data.crop": "height and width of all examples in pixels",
    "data.buckets": "sizes of batches by aspect ratio; empty: all have the size of the crop",
    "data.batch_size": "examples of a step, over all processes",
    "data.workers": "processes that prepare data; 0: threads of the training itself",
    "data.max_bad_fraction": "fraction of a source's records that may be unusable",
    "data.read_threads": "examples read at the same time; 0: 16 for buckets",
    "data.cache": "folder on a local disk for packed records from a bucket",
    "data.cache_gib": "largest size of this folder",
    "data.tokenizer": "folder of a tokenizer; empty: the bundled one",
    "data.condition_dropout": "fraction of the examples without sources and prompt, for guidance",
    "data.tag_dropout": "fraction of the prompts that lose their tags",
    "flow.time_sampler": "name, or name and settings; see [Training](../training.md)",
    "flow.draws": "noise draws for each prompt and its sources in a step",
    "distill.loss": "what the student is trained on; empty: no distillation",
    "distill.teacher": "the model that is distilled; `ditfuse distill` sets it",
    "distill.sample": "how the teacher samples; its own settings, changed by these",
    "lora.adapter": "an adapter to start from, as PEFT saves it",
    "evaluations": "name -> an evaluation; see [Training](../training.md#evaluations)",
}

# Page -> what it documents; of a module, the names in its `__all__`.
PYTHON = {
    "fuser": (
        "Fuser and Fused",
        ["ditfuse_jax.Fuser", "ditfuse_jax.Fused", "ditfuse_jax.UserError"],
    ),
    "api": ("Commands as functions", "ditfuse_jax.api"),
    "metrics": ("Metrics", "ditfuse_jax.evaluate.metrics"),
    "train": ("Training", "ditfuse_jax.train"),
    "tasks": ("Tasks", "ditfuse_jax.tasks"),
    "align": ("Alignment", "ditfuse_jax.align"),
}

_ATTRIBUTE = re.compile(r"^  (\w+(?:, \w+)*): (.*(?:\n    .*)*)", re.MULTILINE)


def reference_pages() -> dict[str, str]:
    """Returns path in the site -> Markdown, of all generated pages."""
    pages = {f"reference/commands/{name}.md": command_page(name) for name in cli.COMMANDS}
    pages["reference/settings.md"] = settings_page()
    pages["reference/names.md"] = names_page()
    for name, (title, what) in PYTHON.items():
        pages[f"reference/python/{name}.md"] = python_page(title, what)
    return pages


def command_page(name: str) -> str:
    """Returns the page of a command: its description, usage and options."""
    _, parser = cli._parsers(name)
    description = (parser.description or "").strip()
    lines = [f"# ditfuse {name}", ""]
    for paragraph in re.split(r"\n\n+", description):
        is_code = paragraph.lstrip().startswith("ditfuse ")
        text = ["```", textwrap.dedent(paragraph), "```"] if is_code else [_escaped(paragraph)]
        lines += [*text, ""]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if not actions:
            continue
        title = (group.title or "").capitalize()
        kind = "option" if any(action.option_strings for action in actions) else "argument"
        rows = [f"| {_usage(action)} | {_help(parser, action)} |" for action in actions]
        lines += [f"## {title}", "", *_table(f"| {kind} | meaning |", rows)]
    if parser.get_default("accepts_overrides"):
        lines += [
            "Every [setting of the recipe](../settings.md) is an option too: "
            "`--config.train.steps=100`.",
            "",
        ]
    return "\n".join(lines)


def _table(head: str, rows: list[str]) -> list[str]:
    """Returns the lines of a table whose first column is not broken."""
    rule = "|---" * (head.count("|") - 1) + "|"
    return ['<div class="names" markdown>', "", head, rule, *rows, "", "</div>", ""]


def _usage(action: argparse.Action) -> str:
    text = argparse.HelpFormatter("", width=200)._format_action_invocation(action)
    if len(action.option_strings) > 1 and action.nargs != 0:  # the value once, as in Python 3.13
        text = re.sub(r"^(-\w) .*, (--)", r"\1, \2", text)
    return f"`{text}`".replace("|", "\\|")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    return _escaped(text) + " (required)" * (action.required and bool(action.option_strings))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def attributes(kind: type) -> dict[str, str]:
    """Returns attribute -> description, from the `Attributes:` of a class's docstring."""
    _, _, text = (kind.__doc__ or "").partition("Attributes:\n")
    text = "\n".join(line.removeprefix("    ") for line in text.splitlines())
    found = {}
    for names, description in _ATTRIBUTE.findall(text.split("\n\n")[0]):
        found |= dict.fromkeys(names.split(", "), " ".join(description.split()))
    return found


def descriptions() -> dict[str, str]:
    """Returns setting -> what it means, for all settings of a recipe."""
    found = dict(OTHER_SETTINGS)
    for section, kind in SECTIONS.items():
        texts = attributes(kind)
        for field in dataclasses.fields(kind):
            text = field.metadata.get("help") or texts.get(field.name, "")
            found.setdefault(f"{section}.{field.name}", text)
    return found


def settings() -> dict[str, Any]:
    """Returns setting -> its default, of a recipe that starts from the preset `nano`."""
    found = {}
    for section, value in default_config("nano").items():
        documented = SECTIONS.get(section)
        if documented is None and section not in ("data", "distill"):
            found[section] = value.to_dict() if hasattr(value, "to_dict") else value
            continue
        for name, item in value.items():
            found[f"{section}.{name}"] = item.to_dict() if hasattr(item, "to_dict") else item
    return found


def settings_page() -> str:
    """Returns the page of all settings of a recipe."""
    texts = descriptions()
    lines = [
        "# Settings of a recipe",
        "",
        "Each is an option of `ditfuse train` and `ditfuse sweep`, like "
        "`--config.train.steps=100`, and a line of a recipe, like `config.train.steps = 100`.  "
        'The defaults are those of `default_config("nano")`; presets differ in `model`.',
        "",
    ]
    sections: dict[str, list[str]] = {}
    for name, value in settings().items():
        section = name.partition(".")[0] if "." in name else "General"
        default = f"`{value!r}`".replace("|", "\\|")
        sections.setdefault(section, []).append(f"| `{name}` | {default} | {texts[name]} |")
    for section, rows in sections.items():
        lines += [f"## {section}", "", *_table("| setting | default | meaning |", rows)]
    lines += ["The settings in `sample` are options of `ditfuse fuse` and `ditfuse evaluate`:"]
    lines += [f"`{option_name(field.name)}`" for field in dataclasses.fields(SamplingConfig)]
    return "\n".join(lines) + "\n"


def registries() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields (module, name, registry) of the registries that settings and options name."""
    for module, names in {
        "ditfuse_jax.tasks": ["TASKS"],
        "ditfuse_jax.degrade": ["DEGRADATIONS", "PSEUDO_TARGETS", "M3_PRESETS"],
        "ditfuse_jax.pipeline.sources": ["SOURCES"],
        "ditfuse_jax.pipeline.datasets": ["DATASETS"],
        "ditfuse_jax.model": ["PRESETS"],
        "ditfuse_jax.model.heads": ["HEADS"],
        "ditfuse_jax.model.attention": ["IMPLEMENTATIONS"],
        "ditfuse_jax.model.remat": ["REMAT_POLICIES"],
        "ditfuse_jax.model.quantization": ["QUANTIZATIONS"],
        "ditfuse_jax.flow": ["SOLVERS"],
        "ditfuse_jax.flow.times": ["TIME_SAMPLERS", "SHIFT_RULES"],
        "ditfuse_jax.flow.loss": ["WEIGHTINGS"],
        "ditfuse_jax.flow.distillation": ["DISTILLATIONS"],
        "ditfuse_jax.train.optimizer": ["OPTIMIZERS", "SCHEDULES"],
        "ditfuse_jax.train": ["WRITERS", "EVALUATORS"],
        "ditfuse_jax.prompts": ["INSTRUCTION_POOLS"],
        "ditfuse_jax.sample.standard_prompts": ["STANDARD_TASKS"],
        "ditfuse_jax.evaluate.metrics": ["METRICS", "METRIC_PRESETS"],
        "ditfuse_jax.evaluate.runner.suites": ["SUITES"],
    }.items():
        for name in names:
            yield module, name, getattr(import_module(module), name)


def names_page() -> str:
    """Returns the page of the names that can be chosen."""
    lines = [
        "# Names to choose from",
        "",
        "What settings and options may name.  Each table can be "
        "[extended](../../CONTRIBUTING.md#inside-and-outside).",
        "",
    ]
    for module, name, registry in registries():
        assert isinstance(registry, Registry)
        kind = registry.kind[0].upper() + registry.kind[1:]
        lines += [f"## {kind}", "", f"`{module}.{name}`:", ""]
        lines += [", ".join(f"`{key}`" for key in registry), ""]
    return "\n".join(lines)


def python_page(title: str, what: str | list[str]) -> str:
    """Returns a page that mkdocstrings fills with docstrings."""
    if isinstance(what, str):
        names = [f"{what}.{name}" for name in import_module(what).__all__]
        head = f"`{what}`\n"
    else:
        names, head = what, ""
    blocks = [f"::: {_home(name)}\n" for name in names if _is_documented(name)]
    return "\n".join([f"# {title}\n", head, *blocks])


def _home(name: str) -> str:
    """Returns the full name under which a function or class is defined."""
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    return f"{value.__module__}.{attribute}"


def _is_documented(name: str) -> bool:
    """Returns whether a name is a function or class of this package with a docstring."""
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    own = str(getattr(value, "__module__", "")).startswith("ditfuse_jax")
    return (own and isinstance(value, type)) or hasattr(value, "__code__")
