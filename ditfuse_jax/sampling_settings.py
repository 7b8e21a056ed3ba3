"""The fields of `flow.SamplingConfig`: what the options of commands are made from.

Apart from it, so that a command's help and its refusal of a wrong option need no JAX.
"""

import dataclasses
from typing import Any


def _setting(default: Any, help: str, at_least: float | None = None) -> Any:
    """A field with the help text of its command-line option and its smallest value."""
    return dataclasses.field(default=default, metadata={"help": help, "at_least": at_least})


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """Names, types and default values; the metadata of each field holds its help text.

    `flow.SamplingConfig` checks the values.
    """

    steps: int = _setting(50, "steps of the solver", 1)
    solver: str = _setting(
        "euler", "method of integration: euler, heun, midpoint, ab2, dpmpp_2m, unipc"
    )
    shift: float = _setting(1.0, "time shift; above 1 takes more of the steps near noise")
    shift_rule: str = _setting(
        "constant", "how the shift grows with the number of tokens: constant, sd3, flux"
    )
    guidance_scale: float = _setting(2.0, "how closely to follow the instruction")
    image_guidance_scale: float = _setting(1.6, "how closely to follow the source images")
    guidance_interval: tuple[float, float] = _setting(
        (0.0, 1.0), "first and last time (0 is noise, 1 the image) at which guidance applies", 0
    )
    guidance_rescale: float = _setting(
        0.0, "0 to 1: how far guided contrast is brought back to that without guidance", 0
    )
    apg_eta: float = _setting(
        1.0, "projected guidance: share of its part along the image; below 1 saturates less"
    )
    apg_threshold: float = _setting(
        0.0, "projected guidance: largest root mean square of a difference; 0 is no limit", 0
    )
    apg_momentum: float = _setting(
        0.0, "projected guidance: weight of earlier steps' differences, such as -0.5"
    )
    negative_prompt: str = _setting("<cfg>", "text of the guidance branch without images")
    requests: str = _setting(
        "",
        "requests that the model takes as tags, such as brightness,contrast:1; sentences are "
        "parsed for them (empty: the model reads sentences itself)",
    )
    apply_requests: bool = _setting(
        True,
        "true: image operations do the requests that the model was not taught; false: these are "
        "left out",
    )
    text_slots: tuple[int, int, int] = _setting(
        (64, 32, 160), "most tokens before, between and after the images", 1
    )
    max_side: int = _setting(
        1024, "longer images are computed at this many pixels and enlarged; 0: no limit", 0
    )
    tile: int = _setting(0, "cut larger images into tiles of this side; 0 never cuts", 0)
    global_steps: int = _setting(
        0, "steps that an image in tiles takes as a whole, downscaled to one tile", 0
    )
    limit_chroma: bool = _setting(
        False,
        "true: no more chroma than the sources have, unless the prompt's tags ask for it",
    )
    refine: bool = _setting(
        False,
        "true: fusions of focuses choose one source for every pixel, and fusions of exposures get "
        "even tones",
    )
    class_map: bool = _setting(
        False,
        "true: classes are found by one fusion in which the model marks all of them, and their "
        "borders follow the image; false: as the model marks each class alone",
    )
    class_map_side: int = _setting(
        0,
        "with class_map: shorter side in pixels at which larger images are marked once more; 0: "
        "only at their own size",
        0,
    )
    class_overlays: str = _setting(
        "",
        "with class_map: classes, such as sky,road, whose own overlay counts as much as the one of "
        "all classes; each takes a fusion more",
    )
    seed: int = _setting(0, "of the noise; images of one size start from the same noise", 0)
    batch_size: int = _setting(1, "images that are computed at a time", 1)


def option_name(name: str) -> str:
    """The command-line option of a field: `guidance_scale` -> `--guidance-scale`."""
    return "--" + name.replace("_", "-")
