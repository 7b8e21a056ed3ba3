"""The command line and the Python call that do what the page did."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.sampling_settings import option_name

SMALLER = 1024  # pixels of the longer side at which images are computed if not in full size


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Which model the server was started with; the arguments of `Fuser.load`.

    Attributes:
      model: as `--checkpoint` takes it.
      adapters: as `--lora` takes each.
      base: as `--base` takes it.
      quantize: as `--quantize` takes it.
    """

    model: str = "small"
    adapters: tuple[str, ...] = ()
    base: str | None = None
    quantize: str | None = None


def command_line(choice: ModelChoice, names: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """Returns the command `ditfuse fuse`.

    Args:
      choice: the model.
      names: of the image files.
      arguments: of `Fuser.__call__` that are not the default.
    """
    words = ["ditfuse", "fuse", *names, "-o", "fused.png"]
    if choice.model != "small":
        words += ["--checkpoint", choice.model]
    words += [word for adapter in choice.adapters for word in ("--lora", adapter)]
    if choice.base is not None:
        words += ["--base", choice.base]
    if choice.quantize is not None:
        words += ["--quantize", choice.quantize]
    for name, value in arguments.items():
        if name == "adjust":
            words += [word for text in value for word in ("--adjust", text)]
        else:
            words += [option_name(name), _word(value)]
    return shlex.join(words)


def python_call(choice: ModelChoice, names: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """Returns the lines of Python; the arguments are those of `command_line`."""
    loaded = [repr(choice.model)]
    if choice.adapters:
        loaded.append(f"adapters={list(choice.adapters)!r}")
    if choice.base is not None:
        loaded.append(f"base={choice.base!r}")
    if choice.quantize is not None:
        loaded.append(f"quantize={choice.quantize!r}")
    given = [*map(repr, names), *(f"{name}={value!r}" for name, value in arguments.items())]
    return (
        "from ditfuse_jax import Fuser\n\n"
        f"fuser = Fuser.load({', '.join(loaded)})\n"
        f"fused = fuser({', '.join(given)})\n"
        'fused.save("fused.png")'
    )


def changed_arguments(**given: Any) -> dict[str, Any]:
    """Returns the arguments of a call that say something: no empty text and no default."""
    defaults = {"task": "fuse", "adjust": [], "prompt": ""}
    return {
        name: value
        for name, value in given.items()
        if value is not None and value != defaults.get(name)
    }


def changed_number(value: float | None, own: int) -> int | None:
    """Returns the number in a box as an argument; None if it is empty or the server's own."""
    return None if value is None or value == own else int(value)


def changed_settings(own: SamplingConfig, of_model: SamplingConfig) -> dict[str, Any]:
    """Returns the settings with which a server was started, where they are not the model's."""
    before = of_model.to_dict()
    return {name: value for name, value in own.to_dict().items() if value != before[name]}


def size_settings(own: SamplingConfig, full: bool, multiple: int) -> dict[str, Any]:
    """Returns the settings that compute an image in full size, or not, if the server's differ.

    Args:
      own: the server's settings.
      full: the switch; off, larger images are computed at `SMALLER` pixels.
      multiple: of pixels, of which the sides of tiles must be.
    """
    if full == (own.max_side == 0):
        return {}
    if not full:
        return {"max_side": SMALLER}
    # In tiles, the memory does not grow with the image.
    tile = own.tile or own.max_side // multiple * multiple
    return {"max_side": 0} | ({} if own.tile else {"tile": tile})


def _word(value: Any) -> str:
    """Returns a value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
