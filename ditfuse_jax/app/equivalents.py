"""The command line and the Python call that do what the page did."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.flow.sampling_config import option_name


def command_line(model: str, names: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """Returns the command `ditfuse fuse`.

    Args:
      model: as `--checkpoint` takes it.
      names: of the image files.
      arguments: of `Fuser.__call__` that are not the default.
    """
    words = ["ditfuse", "fuse", *names, "-o", "fused.png"]
    if model != "small":
        words += ["--checkpoint", model]
    for name, value in arguments.items():
        if name == "adjust":
            words += [word for text in value for word in ("--adjust", text)]
        else:
            words += [option_name(name), _word(value)]
    return shlex.join(words)


def python_call(model: str, names: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """Returns the lines of Python; the arguments are those of `command_line`."""
    given = [*map(repr, names), *(f"{name}={value!r}" for name, value in arguments.items())]
    return (
        "from ditfuse_jax import Fuser\n\n"
        f"fuser = Fuser.load({model!r})\n"
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


def changed_settings(own: SamplingConfig, of_model: SamplingConfig) -> dict[str, Any]:
    """Returns the settings with which a server was started, where they are not the model's."""
    before = of_model.to_dict()
    return {name: value for name, value in own.to_dict().items() if value != before[name]}


def _word(value: Any) -> str:
    """Returns a value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
