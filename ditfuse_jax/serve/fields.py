"""The fields of a form: what a request asks for, as arguments of `Fuser.prepare`."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ditfuse_jax.align import ALIGNMENTS
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.prompts.requests import CLASSES, parse_adjustment
from ditfuse_jax.sample.region import MarkedClass
from ditfuse_jax.serve.limits import Limits

_SETTINGS = {field.name: field.type for field in dataclasses.fields(SamplingConfig)}
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
MEDIA_TYPES = {name: f"image/{name}" for name in _SUFFIXES}
_OWN = ("prompt", "task", "adjust", "resize", "value_range", "align", "depth", "region", "feather")
_ANSWER = ("output_format", "response_format")
_OPENAI = ("model", "n", "size", "quality", "background", "user", "input_fidelity", "stream")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a form asks for.

    Attributes:
      arguments: of `Fuser.prepare`, without the images.
      output_format: a key of `MEDIA_TYPES`.
      as_file: answer with the file instead of JSON.
      size: (width, height) that the images must have; None for any.
    """

    arguments: dict[str, Any]
    output_format: str = "png"
    as_file: bool = False
    size: tuple[int, int] | None = None

    @property
    def suffix(self) -> str:
        """Of the output format."""
        return _SUFFIXES[self.output_format]


def read_fuse(form: Mapping[str, Sequence[str]], limits: Limits, own: SamplingConfig) -> Asked:
    """Reads the fields of `/v1/fuse`.

    Args:
      form: field -> its texts.
      limits: of the server.
      own: the server's sampling settings.

    Raises:
      UserError: an unknown or repeated field, or a bad value.
    """
    unknown = set(form) - set(_OWN) - set(_ANSWER) - set(_SETTINGS)
    if unknown:
        known = ", ".join(("image", "mask", *_OWN, *_ANSWER))
        raise UserError(
            f"field {min(unknown)!r} is unknown: choose from {known}, and sampling settings"
        )
    single = {name: _one(name, texts) for name, texts in form.items() if name not in _LISTS}
    region = _chosen("region", single.get("region"), CLASSES)
    arguments: dict[str, Any] = {
        "prompt": _prompt(single.get("prompt"), limits),
        "task": single.get("task", "fuse"),
        "adjust": [parse_adjustment(text) for text in form.get("adjust", ())],
        "resize": _boolean("resize", single.get("resize", "false")),
        "value_range": list(form.get("value_range", ())) or "auto",
        "align": _chosen("align", single.get("align"), ALIGNMENTS),
        "depth": _number("depth", single["depth"], int) if "depth" in single else None,
        # A text is a class only: the file of a mask is uploaded.
        "region": None if region is None else MarkedClass(region),
    }
    if "feather" in single:
        arguments["feather"] = _number("feather", single["feather"], float)
    sampling = {name: _setting(name, single[name]) for name in single if name in _SETTINGS}
    limits.check_sampling(sampling, own)
    return Asked(arguments | sampling, *_answer(single))


def read_edit(form: Mapping[str, Sequence[str]], limits: Limits) -> Asked:
    """Reads the fields of `/v1/images/edits`, in OpenAI's form.

    Raises:
      UserError: an unknown or repeated field, or one that this server cannot do.
    """
    unknown = set(form) - {"prompt"} - set(_ANSWER) - set(_OPENAI)
    if unknown:
        raise UserError(f"field {min(unknown)!r} is unknown here: /v1/fuse takes all settings")
    single = {name: _one(name, texts) for name, texts in form.items()}
    if single.get("n", "1") != "1":
        raise UserError(f"n must be 1, not {single['n']}: a fusion has one result")
    if single.get("stream", "false").lower() != "false":
        raise UserError("stream is not supported: leave it out")
    if single.get("background") == "transparent":
        raise UserError("background transparent is not supported: a fused image has no alpha")
    size = None
    if (text := single.get("size", "auto")) != "auto":
        parts = text.split("x")
        if len(parts) != 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
            raise UserError(f"size must be auto or WIDTHxHEIGHT, not {text!r}")
        size = int(parts[0]), int(parts[1])
    prompt = _prompt(single.get("prompt"), limits)
    return Asked({"prompt": prompt or None}, *_answer(single), size)


_LISTS = ("adjust", "value_range")


def _answer(single: Mapping[str, str]) -> tuple[str, bool]:
    output = _chosen("output_format", single.get("output_format", "png"), tuple(_SUFFIXES))
    answer = _chosen(
        "response_format", single.get("response_format", "b64_json"), ("b64_json", "file")
    )
    return str(output), answer == "file"


def _one(name: str, texts: Sequence[str]) -> str:
    if len(texts) != 1:
        raise UserError(f"field {name!r} was sent {len(texts)} times: send it once")
    return texts[0]


def _prompt(text: str | None, limits: Limits) -> str | None:
    if text is not None and len(text) > limits.prompt_characters:
        raise UserError(
            f"the prompt has {len(text)} characters: give at most {limits.prompt_characters}"
        )
    return text


def _chosen(name: str, text: str | None, known: Sequence[str]) -> str | None:
    if text is not None and text not in known:
        raise UserError(f"{name} {text[:80]!r} is unknown: choose from {', '.join(known)}")
    return text


def _setting(name: str, text: str) -> Any:
    """Reads the value of a sampling setting; `SamplingConfig` checks its range."""
    kind: Any = _SETTINGS[name]
    if parts := typing.get_args(kind):
        values = text.strip("()[] ").split(",")
        if len(values) != len(parts):
            raise UserError(f"{name} must be {len(parts)} numbers like 1,2, not {text[:80]!r}")
        return tuple(_number(name, v, of) for v, of in zip(values, parts, strict=True))
    if kind is bool:
        return _boolean(name, text)
    return text if kind is str else _number(name, text, kind)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UserError(f"{name} must be true or false, not {text[:80]!r}")
    return text.lower() == "true"


def _number(name: str, text: str, kind: type) -> Any:
    try:
        if len(text) > 40:  # int() of many digits raises a long message
            raise ValueError
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} must be {what}, not {text[:80]!r}") from error
