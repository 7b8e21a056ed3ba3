"""Options shared by the commands that run a trained model: which model, and how it samples."""

import argparse
import ast
import dataclasses
import typing
from typing import Any

from ditfuse_jax.paths import model_path
from ditfuse_jax.sampling_settings import SamplingSettings, option_name


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, --lora, --base and --quantize."""
    add = parser.add_argument
    add(
        "--checkpoint",
        type=model_path,
        help="small (bundled), run folder, RUN@best, a step, OmniGen's, or hf://OWNER/NAME",
    )
    add("--lora", action="append", default=[], metavar="DIR[=WEIGHT]", help="adapter to merge")
    add("--base", type=model_path, help="where the weights under a run's adapters are, if moved")
    add(
        "--quantize",
        metavar="int8|nf4",
        help="keep the layers' kernels in 8 or 4 bits, for a smaller device",
    )


def add_range_option(parser: argparse.ArgumentParser) -> None:
    """Adds --range."""
    parser.add_argument(
        "--range",
        action="append",
        metavar="LOW,HIGH|percentile|camera|full",
        help="samples of 16-bit and float files that become black and white, the same in all files "
        "of a source (default: by the share of the range in use); repeat it for each source",
    )


def add_align_option(parser: argparse.ArgumentParser) -> None:
    """Adds --align."""
    parser.add_argument(
        "--align",
        nargs="?",
        const="auto",
        metavar="MODEL|FILE",
        help="bring images onto the pixels of the first of their stack and cut off what any lacks, "
        "by the simplest warp that explains them (auto, also without a value), or by a "
        "translation, similarity, affine, homography, or a file of --align-save; residual undoes a "
        "shift of a few pixels between registered images and cuts off and refuses nothing",
    )


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `api` functions that choose the model."""
    from ditfuse_jax.sample import WeightedAdapter

    return {
        "checkpoint": args.checkpoint,
        "adapters": [WeightedAdapter.parse(text) for text in args.lora],
        "base": args.base,
        "quantize": args.quantize,
    }


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for every field of `flow.SamplingConfig`."""
    group = parser.add_argument_group("sampling (default: the model's own settings)")
    for field in dataclasses.fields(SamplingSettings):
        parts = typing.get_args(field.type)
        group.add_argument(
            option_name(field.name),
            type=_numbers if parts else _boolean if field.type is bool else field.type,
            metavar=_metavar(field.type),
            help=field.metadata.get("help"),
        )


def sampling_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the sampling options; those not given are None."""
    return {field.name: getattr(args, field.name) for field in dataclasses.fields(SamplingSettings)}


def _metavar(kind: Any) -> str | None:
    if kind is bool:
        return "true|false"
    return ",".join("N" * len(typing.get_args(kind))) or None


def _boolean(text: str) -> bool:
    """Reads `true` or `false`."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _numbers(text: str) -> tuple[Any, ...]:
    """Reads `1,2,3` or `(1, 2, 3)`."""
    try:
        value = ast.literal_eval(text)
    except SyntaxError as error:
        raise ValueError(text) from error
    return value if isinstance(value, tuple) else (value,)


_boolean.__name__ = "true or false"
_numbers.__name__ = "numbers"  # argparse names the type in its messages
