"""The configuration of an autoencoder, read from diffusers' `config.json`."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path

# Settings of diffusers that are supported with one value only.
_FIXED: Mapping[str, Any] = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
# Settings without effect here: the size of diffusers' tiles, and the precision, an argument here.
_WITHOUT_EFFECT = {"sample_size", "force_upcast"}
# Defaults for files written before these settings existed.
_DEFAULTS: Mapping[str, Any] = {
    "shift_factor": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}


def _is_count(x: Any) -> bool:
    return type(x) is int and x > 0


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and math.isfinite(x)


def _is_bool(x: Any) -> bool:
    return type(x) is bool


_COUNT, _BOOL = (_is_count, "a positive whole number"), (_is_bool, "true or false")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "block_out_channels": (
        lambda x: isinstance(x, list) and bool(x) and all(map(_is_count, x)),
        "a list of positive whole numbers",
    ),
    "layers_per_block": _COUNT,
    "latent_channels": _COUNT,
    "norm_num_groups": _COUNT,
    "scaling_factor": (lambda x: _is_number(x) and x > 0, "a positive number"),
    "shift_factor": (lambda x: x is None or _is_number(x), "a number or null"),
    "use_quant_conv": _BOOL,
    "use_post_quant_conv": _BOOL,
}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an `AutoencoderKL`; the defaults are SDXL's.

    Attributes:
      block_channels: channels of each resolution, starting with the image's.
      layers_per_block: residual blocks per resolution; the decoder has one more.
      latent_channels: channels of the latents.
      norm_groups: groups of all group norms.
      scaling_factor: latents are `(sample - shift_factor) * scaling_factor`.
      shift_factor: see `scaling_factor`.
      quant_conv: whether a 1x1 convolution follows the encoder.
      post_quant_conv: whether a 1x1 convolution precedes the decoder.
    """

    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    scaling_factor: float = 0.13025
    shift_factor: float = 0.0
    quant_conv: bool = True
    post_quant_conv: bool = True

    @property
    def downsampling(self) -> int:
        """Pixels per latent side."""
        return 2 ** (len(self.block_channels) - 1)


def read_autoencoder_config(path: Path) -> AutoencoderConfig:
    """Reads the `config.json` of a diffusers `AutoencoderKL`.

    Raises:
      UserError: the file is missing or not JSON, or a setting is not supported.
    """
    try:
        raw = json.loads(as_path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the autoencoder's {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise UserError(f"{path} is not the config of an AutoencoderKL")
    for name, wanted in _FIXED.items():
        if raw.get(name, wanted) != wanted:
            raise UserError(f"{path}: {name} {raw[name]!r} is not supported, only {wanted!r}")
    settings = {**_DEFAULTS, **raw}
    for name, (fits, wanted) in _RULES.items():
        if name not in settings:
            raise UserError(f"{path} lacks {name}")
        if not fits(settings[name]):
            raise UserError(f"{path}: {name} must be {wanted}, not {settings[name]!r}")
    count = len(settings["block_out_channels"])
    for name, wanted in _BLOCKS.items():
        if raw.get(name, [wanted] * count) != [wanted] * count:
            raise UserError(
                f"{path}: {name} {raw[name]!r} is not supported, only {wanted} for each of the "
                f"{count} block_out_channels"
            )
    known = {*_FIXED, *_RULES, *_BLOCKS, *_WITHOUT_EFFECT}
    for name in raw:
        if name not in known and not name.startswith("_"):
            raise UserError(f"{path}: {name} {raw[name]!r} is an unknown setting")
    config = AutoencoderConfig(
        block_channels=tuple(settings["block_out_channels"]),
        layers_per_block=settings["layers_per_block"],
        latent_channels=settings["latent_channels"],
        norm_groups=settings["norm_num_groups"],
        scaling_factor=float(settings["scaling_factor"]),
        shift_factor=float(settings["shift_factor"] or 0),
        quant_conv=settings["use_quant_conv"],
        post_quant_conv=settings["use_post_quant_conv"],
    )
    for channels in config.block_channels:
        if channels % config.norm_groups:
            raise UserError(
                f"{path}: {channels} channels are not divisible by norm_num_groups "
                f"{config.norm_groups}"
            )
    return config
